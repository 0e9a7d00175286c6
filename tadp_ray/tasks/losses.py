"""Losses of the published code: cross-entropy and focal over pixels, scale-invariant logarithmic over depths."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from tadp_ray.data.sample import IGNORE
from tadp_ray.processes import shared_sum

EPSILON = 1e-8
"""Under the square root of SILog, whose slope is infinite at 0; changes a loss of 0.1 by 5e-8."""


def cross_entropy_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy averaged over all pixels, ignored ones as zero.

    mmseg's default (`avg_non_ignore=False`), with which TADP trains. The mean over all pixels makes the loss of a batch
    the mean of the losses of its parts.

    Args:
        logits: (B, C, H, W).
        mask: int64 (B, H, W); 255 is ignored.
    """
    return F.cross_entropy(logits, mask, ignore_index=IGNORE, reduction="none").mean()


def focal_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Focal terms (sigmoid, gamma 2, unweighted) of each class against the rest, summed over classes, mean over pixels.

    TADP trains Pascal VOC with it (TADP/tadp_seg.py), by segmentation-models-pytorch's multiclass FocalLoss of that time;
    newer releases of that library average over the classes instead, which is the sum divided by their number. The
    supplement says cross-entropy.

    Args:
        logits: (B, C, H, W).
        mask: int64 (B, H, W); pixels of 255 are left out of the mean, which is over the images of all processes. With no
            pixel left the loss is 0.
    """
    labelled = mask != IGNORE
    truth = F.one_hot(mask.where(labelled, 0), logits.shape[1]).movedim(-1, 1).to(logits)
    terms = sigmoid_focal_loss(logits, truth, alpha=-1, gamma=2).sum(1)
    return shared_sum(terms.where(labelled, 0).sum()) / shared_sum(labelled.sum()).clamp(min=1)


def silog_loss(pred: Tensor, target: Tensor) -> Tensor:
    """Scale-invariant logarithmic loss: sqrt(mean(d^2) - 0.5 mean(d)^2), d = ln(target) - ln(pred), over all pixels together.

    With the half (lambda = 0.5) a wrong scale of the whole picture costs less than wrong proportions, yet something. The
    loss of a batch is not the mean of the losses of its parts, so the sums are taken over all processes. VPD and TADP
    train NYUv2 with it.

    Args:
        pred: (B, H, W) metres, above 0.
        target: (B, H, W) metres, 0 = no reading. With no reading at all the loss has no gradient.
    """
    known = target > 0
    error = target.where(known, 1.0).log() - pred.where(known, 1.0).log()
    sums = torch.stack([error.sum(), error.square().sum()])
    mean, mean_square = shared_sum(sums) / shared_sum(known.sum()).clamp(min=1)
    return (mean_square - 0.5 * mean.square() + EPSILON).sqrt()
