"""Boxes with class names, independent of the file format."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tadp_ray.data.names import Names, lines_of
from tadp_ray.errors import raise_problems

Box = tuple[float, float, float, float]
"""Left, top, right and bottom edges in pixels, counted from 0."""


@dataclass(frozen=True)
class LabelledBox:
    """A detection or a true object."""

    name: str
    box: Box
    score: float = 0.0
    """Of a detection."""
    difficult: bool = False
    """Whether an object is difficult."""
    crowd: bool = False
    """Whether an object is a crowd (COCO's iscrowd); it is then difficult too."""


@dataclass(frozen=True)
class Truth:
    """The true objects of a data set."""

    objects: dict[str, list[LabelledBox]]
    """Objects by image, in the order of scoring."""
    images: dict[str, str]
    """image_id of a COCO results file -> image, including images that are not scored."""
    categories: dict[int, str] | None
    """category_id of a COCO results file -> class name; None: ids are positions among the classes, from 1."""
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    """(height, width) of images in pixels, where a COCO file tells it."""


def selected(images: Path | None, available: Iterable[str], source: Path) -> list[str]:
    """Return the images to score: those of a list, or all.

    Args:
        images: list of images, one per line; None: all.
        available: images with annotations.
        source: where these come from, for error messages.

    Raises:
        UserError: the list is missing or empty, or contains images that are not available.
    """
    available = list(available)
    if images is None:
        return available
    known, wanted, problems = Names({name: PurePosixPath(name) for name in available}), {}, []
    for line in lines_of(images):
        name, *flag = line.rsplit(maxsplit=1)
        # In VOC's lists of a class, a flag after each image tells whether it contains the class.
        meant = known.meant(line) or (known.meant(name) if flag and flag[0] in ("1", "0", "-1") else [])
        if len(meant) == 1:
            wanted[meant[0]] = None
        else:
            means = (
                f"which may mean {' or '.join(meant[:3])}" if meant else f"and {source} has nothing on image {line!r}"
            )
            problems.append(f"{images}: names {line!r}, {means}")
    raise_problems(problems)
    return list(wanted)
