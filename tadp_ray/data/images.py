"""Image files as arrays: photographs as RGB, label maps as the numbers they hold."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from tadp_ray.data.sample import IGNORE
from tadp_ray.errors import UserError

UNKNOWN = -1
"""In a label table: a value that means nothing."""


def read_image(path: Path) -> np.ndarray:
    """A photograph as uint8 (H, W, 3) RGB; grey, palette and CMYK are converted, what is transparent shows white.

    Raises:
        UserError: the file is truncated, no image, or has more than 8 bits a channel.
    """
    image, stored = _decode(path)
    if ";16" in stored or image.mode in ("I", "F"):
        raise UserError(f"{path}: a photograph with more than 8 bits a channel; save it with 8")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return np.asarray(image.convert("RGB"))


def read_labels(path: Path) -> np.ndarray:
    """The raw values (H, W) of a grey or palette image, never converted through colours.

    Raises:
        UserError: the file is truncated, no image, or has several channels.
    """
    image, _ = _decode(path)
    if image.mode not in ("L", "P", "1", "I", "I;16"):
        raise UserError(f"{path}: a label map needs one channel of class indices, this image is {image.mode}")
    return np.asarray(image)


def label_table(meaning: Mapping[int, int]) -> np.ndarray:
    """`meaning` (value in a file -> class index, 255 = ignored) as an array to look up; its last entry is UNKNOWN."""
    return np.array([meaning.get(value, UNKNOWN) for value in range(max(meaning) + 2)], np.int16)


def class_table(classes: int, ignore: Iterable[int], reduce_zero_label: bool) -> np.ndarray:
    """`label_table` of label maps in class order, from 0, or from 1 where 0 is no class; an ignored value is no class."""
    first = int(reduce_zero_label)
    meaning = {label + first: label for label in range(classes)}
    return label_table(meaning | dict.fromkeys((*range(first), *ignore), IGNORE))


def read_mask(path: Path, table: np.ndarray, otherwise: str) -> dict[str, np.ndarray]:
    """A label map as `mask`, uint8 (H, W) class indices, 255 = ignored.

    Args:
        path: grey or palette image.
        table: from `label_table`.
        otherwise: ends the sentence "label 7 ..." about a value that the table does not know.

    Raises:
        UserError: the file cannot be read, or holds an unknown value.
    """
    raw = read_labels(path).astype(np.int32)
    # Whatever lies below or beyond the table falls on its last entry.
    labels = table[np.clip(raw, -1, len(table) - 1)]
    unknown = raw[labels == UNKNOWN]
    if unknown.size:
        raise UserError(f"{path}: label {unknown[0]} {otherwise}")
    return {"mask": labels.astype(np.uint8)}


def read_depth(path: Path) -> dict[str, np.ndarray]:
    """A 16-bit map of millimetres as `depth`, float32 (H, W) metres, 0 = no reading.

    Raises:
        UserError: the file cannot be read, has no readings, or holds something else than millimetres.
    """
    image, _ = _decode(path)
    if image.mode not in ("I", "I;16"):
        raise UserError(f"{path}: a depth map needs one 16-bit channel of millimetres, this image is {image.mode}")
    raw = np.asarray(image)
    if not raw.any():
        raise UserError(f"{path}: no pixel has a reading; take it off the list")
    if raw.max() < 20:
        raise UserError(
            f"{path}: no reading is above {raw.max()}, so these must be metres; "
            "write millimetres (times 1000, before rounding) as 16-bit PNG"
        )
    return {"depth": raw.astype(np.float32) / 1000}


def _decode(path: Path) -> tuple[Image.Image, str]:
    """An image and how its file stores the pixels (Pillow's raw modes, such as RGB;16B, which it reads as 8 bits)."""
    try:
        with Image.open(path) as image:
            stored = " ".join(str(tile.args) for tile in image.tile)
            image.load()
            return image, stored
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: cannot be read as an image ({error}); replace the file") from None
