"""Losses of the published code beside cross-entropy: focal on Pascal VOC, scale-invariant logarithmic on NYUv2."""

import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from tadp_ray.data.sample import IGNORE

EPSILON = 1e-8
"""Under the square root of SILog, whose slope is infinite at 0; changes a loss of 0.1 by 5e-8."""


def focal_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Focal terms (sigmoid, gamma 2, unweighted) of each class against the rest, summed over classes, mean over pixels.

    TADP trains Pascal VOC with it (TADP/tadp_seg.py), by segmentation-models-pytorch's multiclass FocalLoss of that time;
    newer releases of that library average over the classes instead, which is the sum divided by their number. The
    supplement says cross-entropy.

    Args:
        logits: (B, C, h, w), resized to the labels with aligned corners, as the published head enlarges them by 8.
        mask: int64 (B, H, W); pixels of 255 are left out of the mean. With no pixel left the loss is 0.
    """
    logits = F.interpolate(logits, mask.shape[-2:], mode="bilinear", align_corners=True)
    labelled = mask != IGNORE
    scores = logits.movedim(1, -1)[labelled]
    truth = F.one_hot(mask[labelled], logits.shape[1]).to(scores)
    return sigmoid_focal_loss(scores, truth, alpha=-1, gamma=2, reduction="sum") / max(1, len(scores))


def silog_loss(pred: Tensor, target: Tensor) -> Tensor:
    """Scale-invariant logarithmic loss: sqrt(mean(d^2) - 0.5 mean(d)^2), d = ln(target) - ln(pred), over all pixels together.

    With the half (lambda = 0.5) a wrong scale of the whole picture costs less than wrong proportions, yet something. The
    loss of a batch is not the mean of the losses of its parts. VPD and TADP train NYUv2 with it.

    Args:
        pred: (B, H, W) metres, above 0.
        target: (B, H, W) metres, 0 = no reading. With no reading at all the loss is 0.
    """
    known = target > 0
    if not known.any():
        return 0 * pred.sum()
    error = target[known].log() - pred[known].log()
    return (error.square().mean() - 0.5 * error.mean().square() + EPSILON).sqrt()
