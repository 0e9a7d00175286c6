"""The training images of a personalization: read, resized and encoded as latents."""

import glob
import hashlib
import random
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from tadp_ray.backbones.latent.autoencoder import Autoencoder, latent_scale, posterior_of
from tadp_ray.captions.describe import class_list
from tadp_ray.config.personalization import FolderImages, SceneImages
from tadp_ray.data.images import read_image
from tadp_ray.data.names import SYSTEM_FILES
from tadp_ray.data.pixels import to_tensor
from tadp_ray.data.scenes import Scenes
from tadp_ray.errors import UserError
from tadp_ray.wording import first_few, pluralized

ENCODED_AT_ONCE = 8


@dataclass(frozen=True)
class StyleImages:
    """Images of one style, and their captions."""

    pictures: np.ndarray
    """uint8 (N, S, S, 3)."""
    captions: tuple[str, ...]
    """True class names separated by spaces; empty if they are unknown."""

    def digest(self) -> str:
        """Return the SHA-256 of images and captions as hex digits."""
        return hashlib.sha256(repr((self.pictures.shape, self.captions)).encode() + self.pictures.tobytes()).hexdigest()


def read_style_images(images: SceneImages | FolderImages) -> StyleImages:
    """Read the images of a personalization.

    Raises:
        UserError: there are too few images, or one cannot be read.
    """
    if isinstance(images, SceneImages):
        scenes = Scenes("train", images.count, images.seed, images.size, images.style)
        pictures = [scenes[index].image for index in range(len(scenes))]
        return StyleImages(np.stack(pictures), tuple(class_list(scenes.present(index)) for index in range(len(scenes))))
    files = (path for path in glob.glob(images.files, recursive=True) if Path(path).is_file())
    found = sorted(path for path in files if Path(path).name.lower() not in SYSTEM_FILES)
    if len(found) < images.count:
        examples = f" ({first_few([Path(path).name for path in found])})" if found else ""
        raise UserError(
            f"images.files={images.files!r}: {pluralized(len(found), 'matching images')}{examples}, but images.count asks for "
            f"{images.count}; add images, or lower images.count (3 at least)"
        )
    chosen = sorted(random.Random(images.seed).sample(found, images.count))
    return StyleImages(np.stack([fitted(read_image(Path(path)), images) for path in chosen]), ("",) * images.count)


def fitted(image: np.ndarray, images: FolderImages) -> np.ndarray:
    """Resize an image (H, W, 3) to a square of `images.size`, cropped first if `images.fit` is "crop"."""
    if images.fit == "crop":
        side = min(image.shape[:2])
        top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
        image = image[top : top + side, left : left + side]
    shrinks = min(image.shape[:2]) > images.size
    return cv2.resize(image, (images.size,) * 2, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


@dataclass(frozen=True)
class Latents:
    """Scaled latents of images and of their mirror images: mean and standard deviation, each (2, N, C, h, w) on the CPU."""

    mean: Tensor
    std: Tensor

    def __len__(self) -> int:
        return self.mean.shape[1]


@torch.no_grad()
def encode_pictures(vae: Autoencoder, pictures: np.ndarray) -> Latents:
    """Return the latents of uint8 images (N, S, S, 3); a step only samples noise for them."""
    sides: list[list[Tensor]] = [[], []]
    for views, mirrored in ((pictures, False), (pictures[:, :, ::-1], True)):
        for start in range(0, len(views), ENCODED_AT_ONCE):
            pixels = torch.stack(
                [to_tensor(np.ascontiguousarray(view)) for view in views[start : start + ENCODED_AT_ONCE]]
            )
            posterior = posterior_of(vae, pixels.to(vae.device))
            sides[mirrored].append(torch.stack([posterior.mean, posterior.std]).cpu() * latent_scale(vae))
    mean, std = torch.stack([torch.cat(parts, dim=1) for parts in sides], dim=1)
    return Latents(mean, std)
