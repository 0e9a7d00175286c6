"""Draws boxes over the grey image."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from tadp_ray.pictures.colours import palette
from tadp_ray.pictures.overlays import Box, frame, short, show_image, write
from tadp_ray.tasks.detection.per_image import MIN_SCORE


def draw_boxes(
    axes: Sequence[Axes],
    image: np.ndarray,
    found: Sequence[Mapping[str, Tensor]],
    classes: Sequence[str],
    beside: Sequence[Axes],
) -> set[int]:
    """Draw objects, or confident detections with their scores (`Draw`); return their classes."""
    drawn = [labelled(boxes, classes) for boxes in found]
    for axis, boxes in zip(axes, drawn, strict=True):
        show_boxes(axis, image, boxes, classes)
    return {label for boxes in drawn for _, label, _ in boxes}


def labelled(boxes: Mapping[str, Tensor], classes: Sequence[str]) -> list[tuple[Box, int, str]]:
    """Return edges, class index and label of objects, or of the detections with a score of at least `MIN_SCORE`."""
    edges, labels = boxes["boxes"].tolist(), boxes["labels"].tolist()
    if "scores" not in boxes:
        return [(box, label, short(classes[label])) for box, label in zip(edges, labels, strict=True)]
    return [
        (box, label, f"{short(classes[label])} {score:.2f}")
        for box, label, score in zip(edges, labels, boxes["scores"].tolist(), strict=True)
        if score >= MIN_SCORE
    ]


def show_boxes(axes: Axes, image: np.ndarray, boxes: Iterable[tuple[Box, int, str]], classes: Sequence[str]) -> None:
    """Draw boxes with class index and label over the grey image."""
    show_image(axes, np.repeat(0.35 + 0.65 * image.mean(2, keepdims=True) / 255, 3, 2))
    for box, label, text in boxes:
        frame(axes, box, palette(len(classes))[label])
        write(axes, (max(box[0], 0), box[1]), text, verticalalignment="bottom")
