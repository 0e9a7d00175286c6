"""How a comparison of systems is made from folders of files, whatever the task."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tadp_ray.errors import UserError
from tadp_ray.pictures.comparison import Comparison, Draw, Folders, ImageScore, PixelScore
from tadp_ray.tasks.base import Metrics
from tadp_ray.tasks.pairs import Read, accumulate_pairs, by_name
from tadp_ray.tasks.problems import raise_problems


def compare_maps(
    systems: Folders,
    targets: Path,
    images: Path,
    classes: tuple[str, ...],
    judges: Mapping[str, tuple[Metrics, Read]],
    scores: Callable[[Sequence[Mapping]], np.ndarray],
    score: ImageScore,
    draw: Draw,
    pixel_score: PixelScore,
) -> Comparison:
    """A comparison whose predictions are maps; every file is read once to be scored, and those that are shown once more.

    Args:
        systems: folders of predictions.
        targets: folder of the truth.
        images: folder of the images.
        classes: names in index order, if there are classes.
        judges: for each system what counts its pairs of files, and what reads them.
        scores: (what metrics say of each image) -> scores (N,) of each image alone.
        score: what these are.
        draw: how maps are drawn.
        pixel_score: how good each pixel is.

    Raises:
        UserError: files of any folder are missing, left over or do not fit; they are named.
    """
    pairs = gathered(
        {
            name: lambda folder=folder, judge=judges[name]: accumulate_pairs(
                folder, targets, judge[0].accumulate, judge[1]
            )
            for name, folder in systems.items()
        }
    )
    readers = [read for _, read in judges.values()]
    return Comparison(
        classes=classes,
        systems=tuple(systems),
        ids=tuple(pairs[0]),
        score=score,
        scores=np.stack([scores(metrics.images) for metrics, _ in judges.values()]),
        images=images_of(images, pairs[0]),
        read=lambda system, name: readers[system](*pairs[system][name]),
        draw=draw,
        pixel_score=pixel_score,
    )


def gathered(makers: Mapping[str, Callable[[], Any]]) -> list[Any]:
    """What is made for each system.

    Raises:
        UserError: it could not be made for some; all of them are told of at once.
    """
    made, problems = [], []
    for name, make in makers.items():
        try:
            made.append(make())
        except UserError as error:
            problems += [f"{name}: {line}" for line in str(error).splitlines()]
    raise_problems(problems)
    return made


def images_of(folder: Path, ids: Iterable[str]) -> dict[str, Path]:
    """The image files of these ids.

    Raises:
        UserError: some are missing; they are named.
    """
    problems: list[str] = []
    files = by_name(folder, problems)
    raise_problems([*problems, *(f"{folder}: holds no image called {name}" for name in ids if name not in files)])
    return files
