"""What a task is: a loss, a prediction and a score. One training loop serves every task."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from tadp_ray.data.sample import IGNORE
from tadp_ray.metrics.segmentation import SegmentationMetrics


@dataclass(frozen=True)
class Task:
    """A task as values; the model supplies logits, the loop supplies time."""

    loss: Callable[[Tensor, Tensor], Tensor]
    """(logits (B, C, h, w), target (B, H, W)) -> scalar."""
    predict: Callable[[Tensor, tuple[int, int]], Tensor]
    """(logits (B, C, h, w), (H, W)) -> prediction (B, H, W)."""
    metrics: Callable[[Sequence[str]], SegmentationMetrics]
    """Class names -> an empty score."""


def segmentation_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy of logits resized to the labels, averaged over all pixels, ignored ones counting as zero.

    mmseg's default (`avg_non_ignore=False`), with which TADP trains. The mean over all pixels makes the loss of a batch
    the mean of the losses of its parts.
    """
    logits = F.interpolate(logits, mask.shape[-2:], mode="bilinear", align_corners=False)
    return F.cross_entropy(logits, mask, ignore_index=IGNORE, reduction="none").mean()


def segmentation_predict(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """The likeliest class (B, H, W) of each pixel at `size`."""
    return F.interpolate(logits, size, mode="bilinear", align_corners=False).argmax(1)


TASKS = {"segmentation": Task(segmentation_loss, segmentation_predict, SegmentationMetrics)}
