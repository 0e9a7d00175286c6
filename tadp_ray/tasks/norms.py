"""Batch normalisation that does not depend on how a batch is shared out, and of the feature levels."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tadp_ray.processes import shared_sum, world_size


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over the images of all processes, on any device.

    The published code uses SyncBatchNorm, which torch offers for GPUs only; with one process this is plain batch norm.
    """

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch c h w"]:
        """Normalised (B, C, H, W); every process must hold equally many images."""
        size = world_size()
        if not self.training or size == 1:
            return super().forward(x)
        # In single precision, whatever the input's, as torch's own does. Two exchanges, since a variance from the mean of
        # squares loses its last digits.
        whole = x.float()
        mean = shared_sum(whole.mean((0, 2, 3))) / size
        centred = whole - mean[:, None, None]
        variance = shared_sum(centred.square().mean((0, 2, 3))) / size
        with torch.no_grad():
            count = x.numel() / x.shape[1] * size
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


class FeatureNorms(nn.ModuleList):
    """Batch norms of the feature levels, whose channels differ in scale a thousandfold within one U-Net.

    Ours, as an option: a long training evens the scales out, a short one cannot.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__(GlobalBatchNorm2d(count) for count in channels)

    def forward(self, features: Sequence[Float[Tensor, "batch _ _ _"]]) -> list[Float[Tensor, "batch _ _ _"]]:
        """Levels (B, C, h, w), each normalised by channel."""
        return [norm(feature) for norm, feature in zip(self, features, strict=True)]
