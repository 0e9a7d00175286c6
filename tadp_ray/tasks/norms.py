"""Batch normalization over all processes, and batch norms of the feature levels."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tadp_ray.processes import shared_sum, world_size


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """Batch normalization over the images of all processes, on any device.

    The published segmentation code uses SyncBatchNorm, which torch has for GPUs only. With one process this is plain batch norm.
    """

    def forward(self, input: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch c h w"]:
        """Return the normalized (B, C, H, W); every process must have the same number of images."""
        size = world_size()
        if not self.training or size == 1:
            return super().forward(input)
        # In float32 for inputs of any type, as in torch. Two reductions, since a variance computed from the mean of squares
        # loses precision.
        whole = input.float()
        mean = shared_sum(whole.mean((0, 2, 3))) / size
        centred = whole - mean[:, None, None]
        variance = shared_sum(centred.square().mean((0, 2, 3))) / size
        # torch's class can do without running statistics; this one always has them.
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        with torch.no_grad():
            count = input.numel() / input.shape[1] * size
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)


class FeatureNorms(nn.ModuleList):
    """Batch norms of the feature levels, since the scales of a U-Net's channels differ by a factor of a thousand.

    This option is not in the published code: a long training adapts to the scales, a short one cannot.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__(GlobalBatchNorm2d(count) for count in channels)

    def forward(self, features: Sequence[Float[Tensor, "batch _ _ _"]]) -> list[Float[Tensor, "batch _ _ _"]]:
        """Return the levels (B, C, h, w), each normalized per channel."""
        return [norm(feature) for norm, feature in zip(self, features, strict=True)]
