"""Pixel losses of the published code: cross-entropy and focal loss."""

import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from tadp_ray.data.sample import IGNORE
from tadp_ray.processes import shared_sum


def cross_entropy_loss(
    logits: Float[Tensor, "batch classes h w"], mask: Int64[Tensor, "batch h w"]
) -> Float[Tensor, ""]:
    """Return the cross-entropy averaged over all pixels; ignored pixels count as zero.

    This is mmseg's default (`avg_non_ignore=False`), which TADP uses. With the mean over all pixels, the loss of a batch is
    the mean of the losses of its parts.

    Args:
        logits: (B, C, H, W).
        mask: int64 (B, H, W); 255 is ignored.
    """
    return F.cross_entropy(logits, mask, ignore_index=IGNORE, reduction="none").mean()


def focal_loss(logits: Float[Tensor, "batch classes h w"], mask: Int64[Tensor, "batch h w"]) -> Float[Tensor, ""]:
    """Return the one-vs-rest focal loss (sigmoid, gamma 2, no alpha), summed over classes and averaged over pixels.

    TADP uses it for Pascal VOC (TADP/tadp_seg.py), in the multiclass FocalLoss of segmentation-models-pytorch of that time.
    Newer releases of that library average over the classes instead of summing. The paper's supplement states cross-entropy.

    Args:
        logits: (B, C, H, W).
        mask: int64 (B, H, W); pixels of 255 are excluded from the mean, which is over the images of all processes. Without
            any labelled pixel the loss is 0.
    """
    labelled = mask != IGNORE
    truth = F.one_hot(mask.where(labelled, 0), logits.shape[1]).movedim(-1, 1).to(logits)
    terms = sigmoid_focal_loss(logits, truth, alpha=-1, gamma=2).sum(1)
    return shared_sum(terms.where(labelled, 0).sum()) / shared_sum(labelled.sum()).clamp(min=1)
