"""Systems on the same images, each a folder of predictions: what every one makes of an image, and how good that is."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tadp_ray.data.sample import IGNORE
from tadp_ray.errors import UserError
from tadp_ray.pictures.choose import image_scores
from tadp_ray.scoring.boxes import accumulate_boxes
from tadp_ray.scoring.maps import Read, accumulate_pairs, by_name, depth_reader, label_reader
from tadp_ray.scoring.problems import raise_problems
from tadp_ray.tasks.depth.metrics import DepthMetrics
from tadp_ray.tasks.per_image import PerImage
from tadp_ray.tasks.segmentation.metrics import SegmentationMetrics

Folders = Mapping[str, Path]
"""Predictions by the name of their system; the others are held against the first."""
Merit = Callable[[Tensor, Tensor], Tensor]
"""(prediction, truth) -> how good each pixel is (H, W), 0 where it is not scored."""


@dataclass(frozen=True)
class Contest:
    """S systems on N images."""

    task: str
    classes: tuple[str, ...]
    """In index order; none for depth."""
    systems: tuple[str, ...]
    ids: tuple[str, ...]
    scores: np.ndarray
    """(S, N), of each image alone, higher is better; NaN where an image has nothing to be scored."""
    images: Mapping[str, Path]
    """Image files by id."""
    read: Callable[[int, str], tuple[Any, Any]]
    """(system, id) -> (prediction, truth): maps (H, W), or lists of things."""
    merit: Merit | None = None
    """None for boxes."""


def segmentation_contest(
    systems: Folders,
    targets: Path,
    images: Path,
    classes: Sequence[str],
    ignore: Sequence[int] = (IGNORE,),
    reduce_zero_label: bool = False,
) -> Contest:
    """Label maps, an image scored by the mean IoU of the classes that it shows; arguments as `score_segmentation`'s.

    Raises:
        UserError: files of any folder are missing, left over or do not fit; they are named.
    """
    read = label_reader(classes, ignore, reduce_zero_label)
    judges = {name: (SegmentationMetrics(classes), read) for name in systems}
    return contest_of_maps("segmentation", tuple(classes), systems, targets, images, judges, right)


def depth_contest(
    systems: Folders,
    targets: Path,
    images: Path,
    prediction_scales: Sequence[float],
    target_scale: float,
    max_depth: float = 10.0,
    eigen_crop: bool = False,
) -> Contest:
    """Depth maps, an image scored by its RMSE; arguments as `score_depth`'s, the units of each system's files apart.

    Raises:
        UserError: files of any folder are missing, left over or do not fit; they are named.
    """
    judges = {}
    for name, scale in zip(systems, prediction_scales, strict=True):
        metrics = DepthMetrics(max_depth, eigen_crop)
        judges[name] = metrics, depth_reader(metrics, scale, target_scale)

    def near(found: Tensor, truth: Tensor) -> Tensor:
        # What is infinitely far counts as the farthest, as it does in the score.
        return torch.where(metrics.scored(truth), -(found.clamp(max=max_depth) - truth).square(), 0)

    return contest_of_maps("depth", (), systems, targets, images, judges, near)


def detection_contest(
    systems: Folders, targets: Path, images: Path, classes: Sequence[str], listed: Path | None = None
) -> Contest:
    """Boxes, an image scored by its hits; arguments as `score_detection`'s.

    Raises:
        UserError: files are missing or not as they should be.
    """
    found = gathered(
        {name: lambda at=at: accumulate_boxes(at, targets, classes, listed) for name, at in systems.items()}
    )
    truth, things = found[0][0], [own for _, own, _ in found]
    lines = [metrics.images for _, _, metrics in found]
    return Contest(
        task="detection",
        classes=tuple(classes),
        systems=tuple(systems),
        ids=tuple(truth.objects),
        scores=scores_of("detection", classes, lines),
        images=images_of(images, truth.objects),
        read=lambda system, name: (things[system][name], truth.objects[name]),
    )


def contest_of_maps(
    task: str,
    classes: tuple[str, ...],
    systems: Folders,
    targets: Path,
    images: Path,
    judges: Mapping[str, tuple[SegmentationMetrics | DepthMetrics, Read]],
    merit: Merit,
) -> Contest:
    """A contest whose predictions are maps; every file is read once to be scored, and those that are shown once more."""
    pairs = gathered(
        {name: lambda name=name: accumulate_pairs(systems[name], targets, *judges[name]) for name in systems}
    )
    readers = [read for _, read in judges.values()]
    return Contest(
        task=task,
        classes=classes,
        systems=tuple(systems),
        ids=tuple(pairs[0]),
        scores=scores_of(task, classes, [metrics.images for metrics, _ in judges.values()]),
        images=images_of(images, pairs[0]),
        read=lambda system, name: readers[system](*pairs[system][name]),
        merit=merit,
    )


def right(found: Tensor, truth: Tensor) -> Tensor:
    """1 where a label is right."""
    return ((found == truth) & (truth != IGNORE)).double()


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


def scores_of(task: str, classes: Sequence[str], lines: Sequence[Sequence[Mapping]]) -> np.ndarray:
    """Scores (S, N) out of what each system's metrics say of each image."""
    return np.stack([image_scores(PerImage(task, tuple(classes), tuple(own))) for own in lines])


def images_of(folder: Path, ids: Iterable[str]) -> dict[str, Path]:
    """The image files of these ids.

    Raises:
        UserError: some are missing; they are named.
    """
    problems: list[str] = []
    files = by_name(folder, problems)
    raise_problems([*problems, *(f"{folder}: holds no image called {name}" for name in ids if name not in files)])
    return files
