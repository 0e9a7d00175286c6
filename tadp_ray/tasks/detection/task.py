"""The task of object detection: boxes with classes, the losses of the head, average precision."""

from collections.abc import Mapping, Sequence
from functools import reduce

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import clip_boxes_to_image

from tadp_ray.config.recipe import Recipe
from tadp_ray.data.sample import Sample
from tadp_ray.layout import CLASSES
from tadp_ray.registry import deferred
from tadp_ray.tasks.base import Size, Task, bilinear, written
from tadp_ray.tasks.detection.coco import BoxFiles, write_boxes
from tadp_ray.tasks.detection.faster_rcnn import DetectionHead
from tadp_ray.tasks.detection.metrics import DetectionMetrics


def detection(_: Recipe) -> Task:
    """Return the detection task."""
    return Task(
        truth="boxes",
        target=boxes_of,
        resize=resize_boxes,
        upsample=bilinear,
        loss=lambda losses, _: reduce(torch.add, losses.values()),
        probabilities=None,
        predict=lambda found: found,
        draw=deferred("tadp_ray.tasks.detection.drawing:draw_boxes"),
        arrays=arrays_of,
        metrics=DetectionMetrics,
        logged_metrics=("ap50", "ap"),
        files=BoxFiles,
        write=write_boxes,
        score_options=lambda folder: {**written(folder, ".json"), "classes": folder / CLASSES},
        counted_loss=pyramid_sum,
        head_targets=with_generators,
        not_counted="boxes are sampled at run time: of the head only the pyramid is counted",
    )


def boxes_of(sample: Sample) -> dict[str, Tensor]:
    """Return the boxes (N, 4), class labels (N,), difficult flags (N,) and, if there are any, crowd flags (N,) of a sample."""
    boxes, classes, difficult = sample.objects()
    crowd = {} if sample.crowd is None else {"crowd": torch.as_tensor(sample.crowd, dtype=torch.bool)}
    return {
        "boxes": torch.from_numpy(boxes.astype("float32")),
        "labels": torch.from_numpy(classes.astype("int64")),
        "difficult": torch.as_tensor(difficult, dtype=torch.bool),
        **crowd,
    }


def resize_boxes(boxes: Mapping[str, Tensor], image_size: Size, size: Size) -> dict[str, Tensor]:
    """Scale boxes from one image (height, width) to another, on the CPU (`Task.resize`).

    A head may find boxes in the padding at the right and the bottom of an image: they are left out, or end at the image's edge.
    """
    (old_height, old_width), (height, width) = image_size, size
    moved = {name: value.cpu() for name, value in boxes.items()}
    inside = (moved["boxes"][:, :2] < torch.tensor([old_width, old_height])).all(1)
    moved = {name: value[inside] for name, value in moved.items()}
    ratio = torch.tensor([width / old_width, height / old_height] * 2)
    return {**moved, "boxes": clip_boxes_to_image(moved["boxes"], image_size) * ratio}


def arrays_of(found: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Return the boxes (N, 4), class indices (N,) and scores (N,) of a prediction as arrays."""
    keys = {"boxes": "boxes", "box_classes": "labels", "scores": "scores"}
    return {name: found[key].numpy() for name, key in keys.items()}


def with_generators(targets: Sequence[Mapping], generators: Sequence[torch.Generator]) -> list[dict]:
    """Return each image's boxes with the generator for sampling anchors and proposals in the head."""
    return [{**target, "generator": rng} for target, rng in zip(targets, generators, strict=True)]


def pyramid_sum(head: DetectionHead, features: Sequence[Tensor], _: Size) -> Tensor:
    """Return the sum of the head's feature pyramid, which is computed before anything is sampled."""
    levels = head.neck({str(i): level for i, level in enumerate(features)})
    return reduce(torch.add, (level.sum() for level in levels.values()))
