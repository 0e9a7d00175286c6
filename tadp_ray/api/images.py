"""Reads any image into the form that samples have."""

import os
from pathlib import Path

import numpy as np
from PIL import Image

from tadp_ray.data.images import given_image
from tadp_ray.data.images import read_image as read_photograph
from tadp_ray.data.sample import Sample
from tadp_ray.errors import UserError

AnyPicture = str | os.PathLike | Image.Image | np.ndarray | Sample
"""A file, a Pillow image, an array uint8 (H, W, 3) RGB, or a sample of a data set."""


def read_image(image: AnyPicture) -> np.ndarray:
    """An image as uint8 (H, W, 3) RGB, as viewers show it: EXIF orientation applied, transparent pixels white.

    Args:
        image: a file, a Pillow image, an array uint8 (H, W, 3) RGB, or a sample of a data set.

    Raises:
        UserError: the file cannot be read, or the image is not one of 8 bits a channel.
    """
    match image:
        case str() | os.PathLike():
            return read_photograph(Path(image))
        case Image.Image():
            return given_image(image)
        case Sample():
            return image.image
        case np.ndarray():
            return checked(image)
    raise UserError(
        f"image of type {type(image).__name__}: expected a path, a Pillow image, an array uint8 (H, W, 3) or a sample"
    )


def checked(image: np.ndarray) -> np.ndarray:
    """The array, if it is uint8 (H, W, 3) and not empty.

    Raises:
        UserError: it is not.
    """
    if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size:
        # What is mirrored by a slice has strides that OpenCV does not take.
        return np.ascontiguousarray(image)
    raise UserError(
        f"image: array {image.dtype} {image.shape}, expected uint8 (height, width, 3) RGB; values in [0, 1] become such by "
        "(255 * image).round().astype('uint8'), grey ones by np.stack([image] * 3, 2)"
    )
