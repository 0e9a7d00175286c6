"""The loss of the published code over depths: scale-invariant and logarithmic."""

import torch
from jaxtyping import Float
from torch import Tensor

from tadp_ray.processes import shared_sum

EPSILON = 1e-8
"""Under the square root of SILog, whose slope is infinite at 0; changes a loss of 0.1 by 5e-8."""


def silog_loss(pred: Float[Tensor, "batch h w"], target: Float[Tensor, "batch h w"]) -> Float[Tensor, ""]:
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
