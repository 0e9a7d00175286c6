"""Draws label maps, readable in grey and by colour-blind people."""

from collections.abc import Sequence

import cv2
import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from tadp_ray.data.sample import IGNORE
from tadp_ray.pictures.colours import palette
from tadp_ray.pictures.overlays import short, show_image, write

MIN_RADIUS = 0.07
"""Smallest distance from a region's centre to its edge for a label, relative to the image's shorter side."""


def draw_labels(
    axes: Sequence[Axes], image: np.ndarray, found: Sequence[Tensor], classes: Sequence[str], beside: Sequence[Axes]
) -> set[int]:
    """Draw label maps (H, W) side by side (`Draw`); return their classes."""
    maps = zip(axes, found, strict=True)
    return set().union(*(show_labels(axis, labels.numpy(), classes) for axis, labels in maps))


def show_labels(axes: Axes, labels: np.ndarray, classes: Sequence[str]) -> set[int]:
    """Draw a label map (H, W) with the names of its larger regions; return its classes."""
    show_image(axes, paint(labels, len(classes)))
    shown = set(np.unique(labels).tolist()) - {IGNORE}
    for label in shown:
        # Padding, so that the image's edge counts as the region's edge.
        inside = cv2.distanceTransform(np.pad(labels == label, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
        row, column = np.unravel_index(inside.argmax(), inside.shape)
        if inside[row, column] >= MIN_RADIUS * min(labels.shape):
            write(axes, (column, row), short(classes[label]), horizontalalignment="center", verticalalignment="center")
    return shown


def paint(labels: np.ndarray, count: int) -> np.ndarray:
    """Return the RGB colours (H, W, 3) in [0, 1] of a map of `count` classes; ignored pixels are white."""
    return np.where((labels == IGNORE)[..., None], 1.0, palette(count)[np.minimum(labels, count - 1)])
