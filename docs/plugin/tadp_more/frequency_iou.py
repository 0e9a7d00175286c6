"""A metric of segmentation: IoU, each class weighted by its share of the ground-truth pixels."""

from collections.abc import Sequence

from tadp_ray.registry import Metric, register_metric


@register_metric("segmentation", Metric("frequency_iou", "frequency-weighted IoU", "%"))
class FrequencyIoU:
    """Frequency-weighted IoU of label maps (B, H, W); 255 is ignored."""

    def __init__(self, classes: Sequence[str]) -> None:
        import torch

        self._confusion = torch.zeros(len(classes), len(classes), dtype=torch.int64)

    def accumulate(self, predicted: "torch.Tensor", target: "torch.Tensor") -> None:  # noqa: F821
        """Add a batch."""
        count, counted = len(self._confusion), target != 255
        pairs = target[counted].long() * count + predicted[counted].long()
        self._confusion += pairs.bincount(minlength=count * count).view(count, count)

    def reduce(self) -> None:
        """Sum over all processes."""
        from tadp_ray.processes import total

        self._confusion = total(self._confusion)

    def compute(self) -> dict[str, float]:
        """Return the metric by name, in percent."""
        right, truth = self._confusion.diag().double(), self._confusion.sum(1).double()
        union = truth + self._confusion.sum(0) - right
        shares = truth / truth.sum()
        return {"frequency_iou": float(100 * (shares * right / union.clamp(min=1)).sum())}
