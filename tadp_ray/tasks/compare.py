"""Compares systems by their folders of predictions, for all tasks."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tadp_ray.errors import UserError, raise_problems
from tadp_ray.pictures.comparison import Comparison, Draw, Folders, ImageScore, PixelScore
from tadp_ray.tasks.base import Metrics
from tadp_ray.tasks.pairs import Read, accumulate_pairs, by_name
from tadp_ray.tasks.per_image import images_class


def compare_maps(
    systems: Folders,
    targets: Path,
    images: Path,
    classes: tuple[str, ...],
    scorers: Mapping[str, tuple[Metrics, Read]],
    task: str,
    score: ImageScore,
    draw: Draw,
    pixel_score: PixelScore,
) -> Comparison:
    """Return a comparison of predicted maps; each file is read once for its score, and again if it is shown.

    Args:
        systems: folders of predictions by the system's name.
        targets: folder of the ground truth.
        images: folder of the images.
        classes: class names in index order; empty without classes.
        scorers: metrics and reader of each system.
        task: whose per-image results give the score of each image.
        score: description of these scores.
        draw: draws maps.
        pixel_score: score of each pixel.

    Raises:
        UserError: files of a folder are missing, superfluous or do not fit; the message lists them.
    """
    pairs = run_all(
        {
            name: partial(accumulate_pairs, systems[name], targets, metrics.accumulate, read)
            for name, (metrics, read) in scorers.items()
        }
    )
    readers = [read for _, read in scorers.values()]
    results = [images_class(task)(task, classes, tuple(metrics.images)) for metrics, _ in scorers.values()]
    return Comparison(
        classes=classes,
        systems=tuple(systems),
        ids=tuple(pairs[0]),
        score=score,
        scores=np.stack([each.image_scores for each in results]),
        images=images_of(images, pairs[0]),
        read=lambda system, name: readers[system](*pairs[system][name]),
        draw=draw,
        pixel_score=pixel_score,
    )


def run_all(functions: Mapping[str, Callable[[], Any]]) -> list[Any]:
    """Return the results of one function per system.

    Raises:
        UserError: some of them failed; one message lists all errors.
    """
    results, problems = [], []
    for name, function in functions.items():
        try:
            results.append(function())
        except UserError as error:
            problems += [f"{name}: {line}" for line in str(error).splitlines()]
    raise_problems(problems)
    return results


def images_of(folder: Path, ids: Iterable[str]) -> dict[str, Path]:
    """Return the image files of these ids.

    Raises:
        UserError: images are missing; the message lists them.
    """
    problems: list[str] = []
    files = by_name(folder, problems)
    raise_problems([*problems, *(f"{folder}: holds no image called {name}" for name in ids if name not in files)])
    return files
