"""The head: maps features of any number of levels to a map of vectors."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tadp_more.normals import NormalsHeadConfig


class NormalsHead(nn.Module):
    """Predicts vectors (B, 3, h, w) in the size of the largest level, not normalized."""

    def __init__(
        self, channels: Sequence[int], strides: Sequence[int], classes: int, config: NormalsHeadConfig
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(sum(channels), config.channels, 3, padding=1), nn.GELU(), nn.Conv2d(config.channels, 3, 1)
        )

    def forward(self, features: Sequence[Tensor], **unused: object) -> Tensor:
        """Return the vectors of features, largest level first."""
        size = features[0].shape[-2:]
        return self.layers(torch.cat([F.interpolate(level, size) for level in features], dim=1))
