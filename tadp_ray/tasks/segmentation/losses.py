"""Losses of the published code over pixels: cross-entropy and focal."""

import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from tadp_ray.data.sample import IGNORE
from tadp_ray.processes import shared_sum


def cross_entropy_loss(
    logits: Float[Tensor, "batch classes h w"], mask: Int64[Tensor, "batch h w"]
) -> Float[Tensor, ""]:
    """Cross-entropy averaged over all pixels, ignored ones as zero.

    mmseg's default (`avg_non_ignore=False`), with which TADP trains. The mean over all pixels makes the loss of a batch
    the mean of the losses of its parts.

    Args:
        logits: (B, C, H, W).
        mask: int64 (B, H, W); 255 is ignored.
    """
    return F.cross_entropy(logits, mask, ignore_index=IGNORE, reduction="none").mean()


def focal_loss(logits: Float[Tensor, "batch classes h w"], mask: Int64[Tensor, "batch h w"]) -> Float[Tensor, ""]:
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
