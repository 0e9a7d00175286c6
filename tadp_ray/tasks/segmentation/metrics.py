"""Mean intersection over union, counted over a whole data set (mmsegmentation's mIoU)."""

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from tadp_ray.data.sample import IGNORE
from tadp_ray.processes import collect, total


class SegmentationMetrics:
    """Confusion counts of a data set, and the metrics computed from them, in percent.

    `things` are the classes of countable objects, if the data set tells them from stuff.

    `images` contains a record of each image: its number of pixels, including ignored ones, and for each class among its
    labels or predictions the class index and the pixels of intersection, union and ground truth.
    """

    def __init__(self, classes: Sequence[str], things: Collection[str] = ()) -> None:
        self._classes = tuple(classes)
        self._is_thing = torch.tensor([name in things for name in classes])
        self._counts = torch.zeros(len(classes), len(classes), dtype=torch.int64)
        self.images: list[dict[str, Any]] = []

    def accumulate(self, predicted: Tensor, target: Tensor) -> None:
        """Add predicted classes (B, H, W) and labels (B, H, W), 255 ignored; both int64 on the CPU."""
        for found, truth in zip(predicted, target, strict=True):
            valid = truth != IGNORE
            pairs = truth[valid] * len(self._classes) + found[valid]
            counts = torch.bincount(pairs, minlength=self._counts.numel()).view_as(self._counts)
            self._counts += counts
            self.images.append({"pixels": truth.numel(), **by_class(counts)})

    def reduce(self) -> None:
        """Sum the counts of all processes, and collect their per-image records."""
        self._counts = total(self._counts)
        self.images = collect(self.images)

    def compute(self) -> dict[str, float]:
        """Return miou, miou_things, accuracy and iou/<class> in percent.

        mIoU is the mean over the classes that occur among labels or predictions; other classes have no IoU and no entry.
        miou_things is that of the things among them; it is left out if there are none.
        """
        hits, union, _ = areas(self._counts)
        found = union > 0
        iou = 100 * hits.double() / union
        metrics = {
            "miou": float(iou[found].mean()),
            "accuracy": float(100 * hits.sum() / self._counts.sum()),
        }
        if (things := found & self._is_thing).any():
            metrics["miou_things"] = float(iou[things].mean())
        names = zip(self._classes, iou.tolist(), found.tolist(), strict=True)
        return metrics | {f"iou/{name}": value for name, value, occurs in names if occurs}


def areas(counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the pixels (C,) of intersection, union and ground truth of confusion counts (C, C) with true classes as rows."""
    hits, truth = counts.diagonal(), counts.sum(1)
    return hits, truth + counts.sum(0) - hits, truth


def by_class(counts: Tensor) -> dict[str, list[int]]:
    """Return the classes of one image and their areas in pixels."""
    found = areas(counts)
    occurs = found[1].nonzero()[:, 0]
    columns = (occurs, *(area[occurs] for area in found))
    return dict(
        zip(("classes", "intersection", "union", "truth"), (column.tolist() for column in columns), strict=True)
    )
