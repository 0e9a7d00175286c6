"""Object detection as a task: boxes with classes, the losses of the head, average precision."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tadp_ray.config.schema import Recipe
from tadp_ray.data.sample import Sample
from tadp_ray.tasks.base import Size, Task, bilinear
from tadp_ray.tasks.detection.faster_rcnn import DetectionHead
from tadp_ray.tasks.detection.files import BoxFiles
from tadp_ray.tasks.detection.metrics import DetectionMetrics


def detection(_: Recipe) -> Task:
    """The task of a recipe of detection."""
    return Task(
        truth="boxes",
        target=boxes_of,
        upsample=bilinear,
        loss=lambda losses, _: sum(losses.values()),
        probabilities=None,
        predict=lambda found: found,
        metrics=DetectionMetrics,
        logged_metrics=("ap50", "ap"),
        files=BoxFiles,
        counted_loss=pyramid_sum,
        head_targets=with_generators,
        not_counted="boxes are sampled at run time: of the head only the pyramid is counted",
    )


def boxes_of(sample: Sample) -> dict[str, Tensor]:
    """Boxes (N, 4), class labels (N,) and which objects count as difficult (N,)."""
    difficult = sample.difficult if sample.difficult is not None else [False] * len(sample.boxes)
    return {
        "boxes": torch.from_numpy(sample.boxes.astype("float32")),
        "labels": torch.from_numpy(sample.box_classes.astype("int64")),
        "difficult": torch.as_tensor(difficult, dtype=torch.bool),
    }


def with_generators(targets: Sequence[Mapping], generators: Sequence[torch.Generator]) -> list[dict]:
    """Each image's boxes with the generator by which the head samples its anchors and proposals."""
    return [{**own, "generator": rng} for own, rng in zip(targets, generators, strict=True)]


def pyramid_sum(head: DetectionHead, features: Sequence[Tensor], _: Size) -> Tensor:
    """The sum of the head's pyramid, on which all that is sampled rests."""
    return sum(level.sum() for level in head.neck({str(at): level for at, level in enumerate(features)}).values())
