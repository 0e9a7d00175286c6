"""The depth loss of the published code: the scale-invariant logarithmic loss."""

import torch
from jaxtyping import Float
from torch import Tensor

from tadp_ray.processes import shared_sum

EPSILON = 1e-8
"""Added under the square root of SILog, whose slope is infinite at 0; changes a loss of 0.1 by 5e-8."""


def silog_loss(pred: Float[Tensor, "batch h w"], target: Float[Tensor, "batch h w"]) -> Float[Tensor, ""]:
    """Return the scale-invariant logarithmic loss sqrt(mean(d^2) - 0.5 mean(d)^2) over all pixels, d = ln(target) - ln(pred).

    With lambda = 0.5, a wrong scale of the whole image costs less than wrong proportions, but is not free. The loss of a
    batch is not the mean of the losses of its parts, so the sums are over all processes. VPD and TADP use it for NYUv2.

    Args:
        pred: (B, H, W) metres, above 0.
        target: (B, H, W) metres, 0 = missing. If all depth is missing, the loss has no gradient.
    """
    known = target > 0
    error = target.where(known, 1.0).log() - pred.where(known, 1.0).log()
    sums = torch.stack([error.sum(), error.square().sum()])
    mean, mean_square = shared_sum(sums) / shared_sum(known.sum()).clamp(min=1)
    return (mean_square - 0.5 * mean.square() + EPSILON).sqrt()
