"""Reads image files as arrays: photographs as RGB, label maps as raw values; both rotated by their EXIF orientation."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from tadp_ray.config.classes import too_many
from tadp_ray.data.sample import IGNORE
from tadp_ray.errors import UserError
from tadp_ray.files import check_readable

UNKNOWN = -1
"""In a label table: a value that is not a class."""
TOP_LABEL = 65535
"""The largest value of a 16-bit label map."""
COLOURS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV")
"""Pillow's modes of photographs with 8 bits per channel."""
LOSSY = ("JPEG", "MPO", "JPEG2000", "WEBP", "AVIF")
"""Lossy formats, which labels and depth must not have."""
SCALED = ("L;2", "L;4", "L;I", "L;2I", "L;4I", "1;I")
"""Pillow's raw modes whose values it scales to 8 bits or inverts, so that the raw values are lost."""
DENSEST = 40_000
"""Pixels of more than one bit that a byte of PNG, JPEG, GIF, BMP or TIFF can stand for: 8,000 of PNG, 33,000 of Zstandard."""
EIGEN_SIZE = (480, 640)
"""(height, width) of the images that Eigen's crop belongs to, which are NYUv2's."""
NEAREST, FARTHEST = 0.02, 1000.0
"""Metres: a depth map whose deepest reading is nearer or farther is in other units than told."""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The transform that makes an image of this EXIF orientation upright; 1 is upright."""


@dataclass(frozen=True)
class Decoded:
    """An upright image, and facts on its file."""

    image: Image.Image
    """Rotated by its EXIF orientation."""
    format: str
    """Pillow's name of it, e.g. PNG."""
    raw_modes: tuple[str, ...]
    """How the file stores pixels, among other words: RGB;16B, say, which Pillow reads as 8 bits."""
    frames: int
    """Number of pictures in the file; the first one is read."""
    compression: str
    """Of TIFF; empty where the format says it."""

    def promises_too_much(self, size: int) -> bool:
        """Return whether the header's size is implausible for the file's size in bytes, so that no memory is allocated."""
        dense = self.format in ("PNG", "JPEG", "MPO", "GIF", "BMP", "TIFF") and self.image.mode != "1"
        return dense and self.image.width * self.image.height > DENSEST * size


def read_image(path: Path) -> np.ndarray:
    """A photograph as uint8 (H, W, 3) RGB; grey, palette and CMYK are converted, what is transparent shows white.

    Its EXIF orientation is applied, so that it lies as viewers show it.

    Raises:
        UserError: the file is truncated, no image, or has more than 8 bits a channel.
    """
    return _photograph(path, _decode(path))


def read_region(path: Path) -> np.ndarray:
    """Return which pixels of a picture are not black, bool (H, W).

    Raises:
        UserError: the file cannot be read as a photograph, or is of a format that makes black pixels nearly black.
    """
    return np.any(_photograph(path, _decode_exact(path, "a map of a region")), axis=2)


def _photograph(path: Path, found: Decoded) -> np.ndarray:
    """Convert a decoded image to uint8 (H, W, 3) RGB."""
    image = found.image
    if any(";16" in mode for mode in found.raw_modes) or image.mode.startswith(("I", "F")):
        raise UserError(f"{path}: a photograph with more than 8 bits a channel; save it with 8")
    return to_rgb(image, str(path))


def given_image(image: Image.Image) -> np.ndarray:
    """Convert a Pillow image as `read_image` does: uint8 (H, W, 3) RGB, rotated by its EXIF orientation.

    Raises:
        UserError: its file is truncated or closed, or it is not of 8 bits a channel.
    """
    try:
        image.load()
    except Exception as error:  # Nearly anything, as in `_decode`.
        raise UserError(
            f"the image: cannot be read ({type(error).__name__}: {error}); open its file again, or replace it"
        ) from None
    turn = TURNS.get(_orientation(image))
    return to_rgb(image if turn is None else image.transpose(turn), "the image")


def to_rgb(image: Image.Image, name: str) -> np.ndarray:
    """Convert an image with 8 bits per channel to uint8 (H, W, 3) RGB on white; messages call it `name`."""
    if image.mode not in COLOURS:
        raise UserError(f"{name}: a photograph in {image.mode}; save it as RGB")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return np.asarray(image.convert("RGB"))


def read_rgba(path: Path) -> np.ndarray:
    """Read an image with its alpha channel, uint8 (H, W, 4) RGBA.

    Raises:
        UserError: the file is truncated or no image of 8 bits a channel.
    """
    image = _decode(path).image
    if image.mode not in COLOURS:
        raise UserError(f"{path}: an image in {image.mode}; save it as RGBA with 8 bits a channel")
    return np.asarray(image.convert("RGBA"))


DEPTH_MAP = "a depth map"
"""What an image of depths is called."""


def read_values(path: Path, what: str) -> np.ndarray:
    """Read the raw values (H, W) of a grey or palette image, without colour conversion: 1, 8, 16 or 32 bits.

    Args:
        path: the file.
        what: the image holds, for messages.

    Raises:
        UserError: the file is truncated, no image, has several channels or pictures, or may have changed the values.
    """
    found = _decode_exact(path, what)
    if found.frames > 1:
        raise UserError(f"{path}: holds {found.frames} pictures where {what} is one; save that one as PNG")
    # Fractions are depths alone.
    if found.image.mode not in ("L", "P", "1", "I", "I;16", "I;16B", "I;16L", *(["F"] if what == DEPTH_MAP else [])):
        raise UserError(f"{path}: {what} needs one channel of numbers, this image is {found.image.mode}")
    if scaled := [mode for mode in found.raw_modes if mode in SCALED]:
        raise UserError(
            f"{path}: {what} stored as {scaled[0]}, less than 8 bits of grey or white as 0, whose numbers cannot be told; "
            "save it as 8-bit PNG"
        )
    # Beside the raw mode Pillow keeps the greatest value of a PGM only where it scales the others by it.
    if found.format == "PPM" and (greatest := [mode for mode in found.raw_modes if mode.isdecimal()]):
        raise UserError(
            f"{path}: {what} in PGM with a greatest value of {greatest[0]}, by which its numbers are scaled when it is read; "
            "save it as PNG"
        )
    return np.asarray(found.image)


def label_table(meaning: Mapping[int, int]) -> np.ndarray:
    """Return `meaning` (value in a file -> class index, 255 = ignored) as a look-up array; its last entry is UNKNOWN.

    Values that no label map holds are passed over.
    """
    if max(meaning.values()) > IGNORE:
        raise ValueError("a class index above 255 does not fit into a mask")
    top = max(value for value in meaning if 0 <= value <= TOP_LABEL)
    return np.array([meaning.get(value, UNKNOWN) for value in range(top + 2)], np.int16)


def class_table(classes: int, ignore: Iterable[int], reduce_zero_label: bool) -> np.ndarray:
    """Return the `label_table` of label maps in class order, from 0, or from 1 if 0 is ignored.

    Raises:
        UserError: there are more classes than a mask tells apart.
    """
    if why := too_many(classes):
        raise UserError(why)
    first = int(reduce_zero_label)
    ignore = tuple(ignore)
    if first + classes > IGNORE and IGNORE in ignore:
        raise UserError(
            f"{classes} classes with reduce_zero_label: the last one has the value {IGNORE}, which is ignored; leave a class "
            f"out, or list under ignore the values that are no class, without {IGNORE}"
        )
    meaning = {label + first: label for label in range(classes)}
    return label_table(meaning | dict.fromkeys((*range(first), *ignore), IGNORE))


def read_mask(path: Path, table: np.ndarray, otherwise: str) -> dict[str, np.ndarray]:
    """Read a label map as `mask`, uint8 (H, W) class indices, 255 = ignored.

    Args:
        path: grey or palette image.
        table: from `label_table`.
        otherwise: ends the sentence "label 7 ..." about a value that the table does not know.

    Raises:
        UserError: the file cannot be read, or holds an unknown value.
    """
    raw = read_values(path, "a label map").astype(np.int32)
    # Whatever lies below or beyond the table falls on its last entry.
    labels = table[np.clip(raw, -1, len(table) - 1)]
    unknown = raw[labels == UNKNOWN]
    if unknown.size and not 0 <= unknown[0] <= TOP_LABEL:
        raise UserError(f"{path}: label {unknown[0]}: the values of a label map go from 0 to {TOP_LABEL}; correct it")
    if unknown.size:
        raise UserError(f"{path}: label {unknown[0]} {otherwise}")
    return {"mask": labels.astype(np.uint8)}


def read_depth(path: Path, scale: float, units: str, mend: str) -> dict[str, np.ndarray]:
    """Read a depth map as `depth`, float32 (H, W) metres, 0 = no reading.

    Args:
        path: an image of 16 or 32 bits, or .npy.
        scale: units per metre.
        units: what messages call them.
        mend: how to correct other units, for messages.

    Raises:
        UserError: the file cannot be read, has no readings or others than depths, or is in other units.
    """
    metres = read_metres(path, scale)
    if not np.all(np.isfinite(metres) & (metres >= 0)):
        raise UserError(f"{path}: holds values that are negative or not finite; write 0 where there is no reading")
    if not (deepest := metres.max()):
        raise UserError(f"{path}: no pixel has a reading; take the image away, or leave it out of the list")
    if not NEAREST <= deepest <= FARTHEST:
        raise UserError(f"{path}: its deepest reading is {deepest:g} m, read as {units}, which no camera takes; {mend}")
    return {"depth": metres}


def read_metres(path: Path, scale: float) -> np.ndarray:
    """Read a depth map, an image or .npy with `scale` units per metre, as float32 (H, W) metres; infinite beyond float32.

    Raises:
        UserError: the file cannot be read, or has 8 bits.
    """
    values = read_array(path) if path.suffix == ".npy" else read_values(path, DEPTH_MAP)
    if values.dtype.itemsize == 1:
        raise UserError(f"{path}: a depth map of 8 bits, which are too few; write PNG of 16 bits, or .npy")
    with np.errstate(over="ignore"):
        return (values / scale).astype(np.float32)


def read_array(path: Path) -> np.ndarray:
    """Return the numbers (height, width) of a .npy file, memory-mapped so that a wrong header allocates no memory.

    Raises:
        UserError: the file is not a two-dimensional array of numbers.
    """
    check_readable(path)
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception:
        # For a damaged header numpy raises various exceptions; this call does nothing but read the file.
        raise UserError(f"{path}: cannot be read as an array of numbers; write it by numpy.save") from None
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype.kind not in "fiu" or not values.size:
        found = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else "an archive of arrays"
        raise UserError(f"{path}: expected numbers (height, width), this is {found}")
    return values


def is_turned(path: Path) -> bool:
    """Return whether a file is an image with an EXIF rotation."""
    try:
        with Image.open(path) as image:
            return _orientation(image) in TURNS
    except UnidentifiedImageError:
        return False


def _decode_exact(path: Path, what: str) -> Decoded:
    """Decode a file of `what`, which must have a lossless format."""
    found = _decode(path)
    lossy = found.format if found.format in LOSSY else found.compression if "jpeg" in found.compression else ""
    if lossy:
        raise UserError(f"{path}: {what} in {lossy.upper()}, which changes values; save it as PNG")
    return found


def _decode(path: Path) -> Decoded:
    """Decode the first picture of a file, upright."""
    check_readable(path)
    if not path.stat().st_size:
        raise UserError(f"{path}: is empty (0 bytes); replace the file")
    try:
        # A stream, not a path: Pillow 13 maps uncompressed TIFF of a path into memory, and garbles it where it is turned.
        with path.open("rb") as file, Image.open(file) as image:
            found = Decoded(
                image,
                image.format or "",
                tuple(word for tile in image.tile for word in re.findall(r"[\w;]+", str(tile.args))),
                getattr(image, "n_frames", 1),
                str(image.info.get("compression", "")),
            )
            if found.promises_too_much(path.stat().st_size):
                raise ValueError(f"{image.width} x {image.height} pixels are more than its bytes can hold")
            image.load()
            turn = TURNS.get(_orientation(image))
            return found if turn is None else replace(found, image=image.transpose(turn))
    except Exception as error:
        # Of a damaged file Pillow raises nearly anything: OSError, ValueError, SyntaxError, TypeError, struct.error,
        # zlib.error, its bomb warnings. Nothing but the file is read here, so the file is what is wrong.
        raise UserError(
            f"{path}: cannot be read as an image ({type(error).__name__}: {error}); replace the file, or save it again"
        ) from None


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation; 1, upright, if it is missing or cannot be read, as in viewers."""
    try:
        # Not PNG's own getexif, which decodes the whole image to look for EXIF behind the pixels.
        found = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    except Exception:  # The same as in `_decode`: a broken EXIF block leaves a good photograph.
        return 1
    return found if isinstance(found, int) else 1
