"""The interface of data sets: a sample with its shapes, units and ranges, and a data set of samples."""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from tadp_ray.errors import UserError

Split = Literal["train", "val"]
Truth = Literal["mask", "depth", "boxes"]
"""The ground truth of a task."""

IGNORE = 255
"""The mask value of pixels that are ignored."""

NO_IMAGE = np.empty((0, 0, 3), np.uint8)
"""The image of a sample whose ground truth alone was read."""


@dataclass(frozen=True)
class Sample:
    """One image with its ground truth; None for what the data set does not annotate."""

    id: str
    """Unique within the data set."""
    image: np.ndarray
    """uint8 (H, W, 3) RGB."""
    mask: np.ndarray | None = None
    """uint8 (H, W) class index, 255 = ignore."""
    depth: np.ndarray | None = None
    """float32 (H, W) metres, 0 = no reading."""
    boxes: np.ndarray | None = None
    """float32 (N, 4) xyxy pixels."""
    box_classes: np.ndarray | None = None
    """int64 (N,) class index."""
    difficult: np.ndarray | None = None
    """bool (N,): boxes that are ignored in evaluation, since they are hard to recognize (Pascal VOC)."""
    crowd: np.ndarray | None = None
    """bool (N,): difficult boxes around many objects of a class (COCO)."""
    instances: np.ndarray | None = None
    """uint8 (H, W) index of the box that a pixel belongs to, from 1; 0 = none."""

    def truth(self, field: Literal["mask", "depth", "boxes", "box_classes"]) -> np.ndarray:
        """Return a field of the ground truth.

        Raises:
            UserError: the data set does not annotate it.
        """
        found: np.ndarray | None = getattr(self, field)
        if found is None:
            raise UserError(f"sample {self.id!r} has no {field}; choose a data set that annotates it")
        return found

    def objects(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return `boxes`, `box_classes` and `difficult`; no box is difficult where the data set does not say.

        Raises:
            UserError: the data set does not annotate boxes.
        """
        boxes, classes = self.truth("boxes"), self.truth("box_classes")
        return boxes, classes, np.zeros(len(boxes), bool) if self.difficult is None else self.difficult


class Dataset(Protocol):
    """An ordered, finite set of samples over one list of classes; all of them have the same fields."""

    classes: tuple[str, ...]
    ids: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    """(height, width) of each image in pixels."""

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def __getitem__(self, index: int) -> Sample:
        """Return the sample at `index`; the same index always gives the same sample."""
        ...

    def present(self, index: int) -> tuple[str, ...]:
        """Return the names of the classes in the full image (a pixel, a box, its scene), in class-index order."""
        ...

    def digest(self) -> str:
        """Return the sha256 hex of everything that can change a result (images, ground truth, class list), not of paths."""
        ...


def annotation(dataset: Dataset, index: int) -> Sample:
    """Return the sample at `index` for its ground truth: without its image if the data set has a method `annotation`.

    Reading a photograph takes much longer than reading its ground truth.
    """
    return getattr(dataset, "annotation", dataset.__getitem__)(index)
