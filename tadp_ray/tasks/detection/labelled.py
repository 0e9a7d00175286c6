"""What files say about boxes, however they are written."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tadp_ray.data.names import Names, lines_of
from tadp_ray.tasks.problems import raise_problems

Box = tuple[float, float, float, float]
"""Left, top, right and bottom edge in pixels, counted from 0."""


@dataclass(frozen=True)
class LabelledBox:
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

    objects: dict[str, list[LabelledBox]]
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
    known, wanted, problems = Names({name: PurePosixPath(name) for name in there}), {}, []
    for line in lines_of(images):
        name, *flag = line.rsplit(maxsplit=1)
        # VOC's lists of a class say behind each image whether it shows the class.
        meant = known.meant(line) or (known.meant(name) if flag and flag[0] in ("1", "0", "-1") else [])
        if len(meant) == 1:
            wanted[meant[0]] = None
        else:
            means = (
                f"which may mean {' or '.join(meant[:3])}" if meant else f"and {where} has nothing on image {line!r}"
            )
            problems.append(f"{images}: names {line!r}, {means}")
    raise_problems(problems)
    return list(wanted)
