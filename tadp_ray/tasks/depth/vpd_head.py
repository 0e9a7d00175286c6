"""VPD's depth head: fuses the levels at the second smallest level's size and upsamples to metres (published for NYUv2)."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from tadp_ray.errors import UserError
from tadp_ray.tasks.depth.config import DepthHeadConfig
from tadp_ray.tasks.norms import GlobalBatchNorm2d
from tadp_ray.tasks.pyramid import halvings, unfit

GROUPS = 16
"""Number of groups of every group norm (published code)."""


class DepthHead(nn.Module):
    """Computes a depth map at 8 times the largest level's size from feature levels.

    This is the image's size if the VAE has a stride of 8, as in Stable Diffusion. The published code pads a 480-pixel image
    to 512 and cuts the padding off the fused levels: `unpadded: 480` does so. Without it the whole padded image is decoded.

    Source: VPD's and TADP's depth models, which have four levels. The second smallest level is the fused level: larger
    levels are reduced to its size by 3x3 convolutions of stride 2, and the smallest is upsampled. Then concatenation, 1x1,
    GroupNorm, ReLU; three deconvolutions x2; 3x3; x2 bilinear once for each halving from the largest to the fused level;
    3x3, 3x3; sigmoid times the maximum depth.

    Args:
        channels: channels of the levels, largest level first; a multiple of 16 for a level that is halved more than once.
        strides: strides of the levels, at least two; each must be a power of two times the first.
        config: widths and the maximum depth.

    Raises:
        UserError: the levels or the unpadded size do not fit.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], _: int, config: DepthHeadConfig) -> None:
        super().__init__()
        halved = halvings(config.kind, strides)
        if len(strides) < 2:
            raise unfit(config.kind, strides, "at least two levels")
        *above, fused, smallest = halved
        unpadded, stride = config.unpadded, strides[-2]
        if unpadded is not None and unpadded % stride:
            raise UserError(
                f"model.head.unpadded={unpadded}: must be a multiple of {stride}, the stride of the fused level in pixels; try "
                f"{unpadded // stride * stride}"
            )
        self.kept = None if unpadded is None else unpadded // stride
        self.upsampling = 2 ** (smallest - fused)
        self.reduce = nn.ModuleList(
            halving(width, fused - level) for width, level in zip(channels, above, strict=False)
        )
        self.fuse = nn.Sequential(
            nn.Conv2d(sum(channels), config.fused, kernel_size=1), nn.GroupNorm(GROUPS, config.fused), nn.ReLU()
        )

        def normed(layer: nn.Module, channels: int) -> nn.Sequential:
            return nn.Sequential(layer, GlobalBatchNorm2d(channels), nn.ReLU())

        same = partial(nn.Conv2d, kernel_size=3, padding=1)
        doubling = partial(nn.ConvTranspose2d, kernel_size=2, stride=2, bias=False)
        widths = [config.fused, *[config.deconvolved] * 3]
        self.decode = nn.Sequential(
            *(normed(doubling(before, after), after) for before, after in pairwise(widths)),
            normed(same(config.deconvolved, config.channels), config.channels),
            *(nn.Upsample(scale_factor=2, mode="bilinear") for _ in range(fused)),
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

    def forward(
        self, features: Sequence[Float[Tensor, "batch _ _ _"]], dropout_mask: None = None, **_: object
    ) -> Float[Tensor, "batch 1 h w"]:
        """Return metres (B, 1, 8h, 8w) between 0 and the maximum depth; the largest feature level is (B, C, h, w).

        This head has no dropout, so `dropout_mask` is None.
        """
        *above, second_smallest, smallest = features
        reduced = [reduce(level) for reduce, level in zip(self.reduce, above, strict=True)]
        upsampled = F.interpolate(smallest, scale_factor=self.upsampling)
        fused = self.fuse(torch.cat([*reduced, second_smallest, upsampled], 1))
        # bfloat16 would round metres to half a per cent.
        metres = self.decode(fused[..., : self.kept, : self.kept]).float().sigmoid() * self.max_depth
        # What was cut off has no ground truth, but the view's size.
        height, width = (above[0] if above else second_smallest).shape[-2:]
        missing = 8 * width - metres.shape[-1], 8 * height - metres.shape[-2]
        return F.pad(metres, (0, missing[0], 0, missing[1]), mode="replicate") if any(missing) else metres


def halving(width: int, times: int) -> nn.Module:
    """Return layers that halve a level (B, width, h, w) `times` times, with norms in between; the identity for 0 times.

    Raises:
        UserError: the width is not a multiple of the groups of the norms.
    """
    if times > 1 and width % GROUPS:
        raise UserError(
            f"model.head.kind=vpd_depth: a level of {width} channels is halved {times} times, for which its channels must be a "
            f"multiple of {GROUPS}; set model.attention_maps=none, or name another head"
        )
    layers: list[nn.Module] = []
    for _ in range(times):
        layers += [nn.GroupNorm(GROUPS, width), nn.ReLU()] if layers else []
        layers.append(nn.Conv2d(width, width, kernel_size=3, stride=2, padding=1))
    return layers[0] if len(layers) == 1 else nn.Sequential(*layers)
