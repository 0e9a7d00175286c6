"""Mean intersection over union, counted over a whole data set (mmsegmentation's mIoU)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tadp_ray.data.sample import IGNORE
from tadp_ray.processes import total


class SegmentationMetrics:
    """Confusion counts of a data set, and the scores that follow from them, in percent."""

    def __init__(self, classes: Sequence[str]) -> None:
        self._classes = tuple(classes)
        self._counts = torch.zeros(len(classes), len(classes), dtype=torch.int64)

    def accumulate(self, predicted: Tensor, mask: Tensor) -> None:
        """Count predicted classes (B, H, W) against labels (B, H, W), 255 ignored; both int64 on the CPU."""
        valid = mask != IGNORE
        pairs = mask[valid] * len(self._classes) + predicted[valid]
        self._counts += torch.bincount(pairs, minlength=self._counts.numel()).view_as(self._counts)

    def reduce(self) -> None:
        """Add up the counts of all processes."""
        self._counts = total(self._counts)

    def compute(self) -> dict[str, float]:
        """miou, accuracy and iou/<class> in percent.

        mIoU is the mean over classes that occur among labels or predictions; the others have no IoU and no entry.
        """
        hits = self._counts.diagonal()
        union = self._counts.sum(0) + self._counts.sum(1) - hits
        found = union > 0
        iou = 100 * hits.double() / union
        metrics = {
            "miou": float(iou[found].mean()),
            "accuracy": float(100 * hits.sum() / self._counts.sum()),
        }
        names = zip(self._classes, iou.tolist(), found.tolist(), strict=True)
        return metrics | {f"iou/{name}": value for name, value, occurs in names if occurs}
