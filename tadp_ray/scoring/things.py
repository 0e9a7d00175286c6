"""What files say about boxes, however they are written."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tadp_ray.data.files import read_list
from tadp_ray.errors import UserError
from tadp_ray.scoring.refusal import refuse

Box = tuple[float, float, float, float]
"""Left, top, right and bottom edge in pixels, counted from 0."""


@dataclass(frozen=True)
class Thing:
    """A detection or an object."""

    name: str
    box: Box
    value: float
    """Of a detection its score, of an object whether it is difficult."""
    crowd: bool = False
    """Of an object, whether it is a crowd of them, as COCO marks; it is difficult then, too."""


@dataclass(frozen=True)
class Truth:
    """The objects of a data set."""

    objects: dict[str, list[Thing]]
    """By image, in the order of scoring."""
    images: dict[str, str]
    """What a COCO results file calls an image -> the image; those that are not scored are named as well."""
    categories: dict[int, str] | None
    """What a COCO results file calls a class -> its name; None: its place among the classes, counted from 1."""


def selected(images: Path | None, there: Iterable[str], where: Path) -> list[str]:
    """The images to score: those of a list, or all.

    Raises:
        UserError: the list is missing or empty, or names images that are not there.
    """
    there = list(there)
    if images is None:
        return there
    if not images.is_file():
        raise UserError(f"{images}: there is no such list file; name one image a line")
    wanted, known = list(dict.fromkeys(read_list(images))), set(there)
    refuse([f"{images}: {where} has nothing on image {image!r}" for image in wanted if image not in known])
    if not wanted:
        raise UserError(f"{images}: names no image")
    return wanted
