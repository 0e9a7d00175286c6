"""VPD's depth head: the four levels fused at the third one's size, then up-sampled to metres (published for NYUv2)."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tadp_ray.tasks.depth.config import DepthHeadConfig
from tadp_ray.tasks.norms import GlobalBatchNorm2d

GROUPS = 16
"""Of every group norm (published code)."""


class DepthHead(nn.Module):
    """Four feature levels to a depth map at 8 times the largest level's size.

    That is the image's size where the VAE halves three times, as Stable Diffusion's does. The published code pads a
    480-pixel image to 512 and cuts the padding off the fused levels; here the whole padded image is decoded.

    Source: VPD's and TADP's depth models. The two larger levels are brought down by 3x3 convolutions of stride 2, the
    smallest is doubled; concatenated, 1x1, GroupNorm, ReLU; three deconvolutions x2; 3x3; twice x2 bilinear; 3x3, 3x3;
    sigmoid times the largest depth. The widths of group-normed layers must be multiples of 16.
    """

    def __init__(self, in_channels: Sequence[int], _: int, config: DepthHeadConfig) -> None:
        super().__init__()
        largest, second, *_ = in_channels
        halving = partial(nn.Conv2d, kernel_size=3, stride=2, padding=1)
        self.reduce = nn.ModuleList(
            [
                nn.Sequential(
                    halving(largest, largest), nn.GroupNorm(GROUPS, largest), nn.ReLU(), halving(largest, largest)
                ),
                halving(second, second),
            ]
        )
        self.fuse = nn.Sequential(
            nn.Conv2d(sum(in_channels), config.fused, kernel_size=1), nn.GroupNorm(GROUPS, config.fused), nn.ReLU()
        )

        def normed(layer: nn.Module, channels: int) -> nn.Sequential:
            return nn.Sequential(layer, GlobalBatchNorm2d(channels), nn.ReLU())

        same = partial(nn.Conv2d, kernel_size=3, padding=1)
        doubling = partial(nn.ConvTranspose2d, kernel_size=2, stride=2, bias=False)
        widths = [config.fused, *[config.deconvolved] * 3]
        self.decode = nn.Sequential(
            *(normed(doubling(before, after), after) for before, after in pairwise(widths)),
            normed(same(config.deconvolved, config.channels), config.channels),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            same(config.channels, config.channels),
            nn.ReLU(),
            same(config.channels, 1),
        )
        self.max_depth = config.max_depth
        for parts, start in (
            ((self.reduce, self.fuse), partial(nn.init.trunc_normal_, std=0.02)),
            ((self.decode,), partial(nn.init.normal_, std=0.001)),
        ):
            for layer in (layer for part in parts for layer in part.modules()):
                if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                    start(layer.weight)
                    if layer.bias is not None:
                        nn.init.zeros_(layer.bias)

    def forward(self, features: Sequence[Tensor], dropout_mask: None = None, **_: object) -> Tensor:
        """Metres (B, 1, 8h, 8w) between 0 and the largest depth, of features whose largest level is (B, C, h, w).

        This head has no dropout, so its mask is None.
        """
        largest, second, third, smallest = features
        reduced = [reduce(level) for reduce, level in zip(self.reduce, (largest, second), strict=True)]
        fused = self.fuse(torch.cat([*reduced, third, F.interpolate(smallest, scale_factor=2)], 1))
        return self.decode(fused).sigmoid() * self.max_depth
