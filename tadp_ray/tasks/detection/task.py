"""Object detection as a task: boxes with classes, the losses of the head, average precision."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tadp_ray.config.schema import Recipe
from tadp_ray.data.sample import Sample
from tadp_ray.layout import CLASSES
from tadp_ray.tasks.base import Size, Task, bilinear, score_words
from tadp_ray.tasks.detection.coco import BoxFiles, write_boxes
from tadp_ray.tasks.detection.drawing import draw_boxes
from tadp_ray.tasks.detection.faster_rcnn import DetectionHead
from tadp_ray.tasks.detection.metrics import DetectionMetrics


def detection(_: Recipe) -> Task:
    """The task of a recipe of detection."""
    return Task(
        truth="boxes",
        target=boxes_of,
        resize=resize_boxes,
        upsample=bilinear,
        loss=lambda losses, _: sum(losses.values()),
        probabilities=None,
        predict=lambda found: found,
        draw=draw_boxes,
        arrays=arrays_of,
        metrics=DetectionMetrics,
        logged_metrics=("ap50", "ap"),
        files=BoxFiles,
        write=write_boxes,
        score_command=score_command,
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


def resize_boxes(boxes: Mapping[str, Tensor], seen: Size, size: Size) -> dict[str, Tensor]:
    """Boxes in an image of one (height, width), in the pixels of another, on the CPU (`Task.resize`)."""
    (seen_height, seen_width), (height, width) = seen, size
    ratio = torch.tensor([width / seen_width, height / seen_height] * 2)
    moved = {name: value.cpu() for name, value in boxes.items()}
    return {**moved, "boxes": moved["boxes"] * ratio}


def arrays_of(found: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Boxes (N, 4), their class indices (N,) and scores (N,)."""
    names = {"boxes": "boxes", "box_classes": "labels", "scores": "scores"}
    return {name: found[own].numpy() for name, own in names.items()}


def score_command(folder: Path) -> list[str]:
    """`Task.score_command`."""
    return [*score_words("detection", folder, ".json"), "--classes", str(folder / CLASSES)]


def with_generators(targets: Sequence[Mapping], generators: Sequence[torch.Generator]) -> list[dict]:
    """Each image's boxes with the generator by which the head samples its anchors and proposals."""
    return [{**own, "generator": rng} for own, rng in zip(targets, generators, strict=True)]


def pyramid_sum(head: DetectionHead, features: Sequence[Tensor], _: Size) -> Tensor:
    """The sum of the head's pyramid, on which all that is sampled rests."""
    return sum(level.sum() for level in head.neck({str(at): level for at, level in enumerate(features)}).values())
