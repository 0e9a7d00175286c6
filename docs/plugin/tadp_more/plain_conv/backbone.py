"""The networks of the backbone."""

from typing import Any

import torch
from torch import Tensor, nn


class PlainConv:
    """The family (`tadp_ray.backbones.base.Family`): nothing is loaded, so nothing lies anywhere."""

    @staticmethod
    def origin(config: Any, seed: int) -> tuple:
        """Every cell shares the same nothing."""
        return (config.levels,)

    @staticmethod
    def load(origin: tuple) -> "Nothing":
        """No frozen parts."""
        return Nothing(*origin)

    @staticmethod
    def make_backbone(pretrained: "Nothing", config: Any, tokens: int, view: tuple[int, int]) -> "PlainConvBackbone":
        """A fresh network."""
        return PlainConvBackbone(config.width, config.levels)

    @staticmethod
    def sizes(config: Any) -> "tuple[Nothing, str]":
        """The same."""
        return Nothing(config.levels), ""

    @staticmethod
    def places(config: Any) -> dict[str, str]:
        """No weights are read."""
        return {}

    @staticmethod
    def digests(config: Any) -> dict[str, str]:
        """Random weights are known by the seed and this version of their architecture."""
        return {"weights": "plain_conv 1"}


class Nothing:
    """The frozen parts (`tadp_ray.backbones.base.Pretrained`) of a backbone that has none."""

    tokens = 0
    tokenizer = text_encoder = image_encoder = None
    networks = ()
    learned_token = ""

    def __init__(self, levels: int) -> None:
        self.multiple = 2 ** (levels + 1)

    def to(self, device: torch.device) -> "Nothing":
        """There is nothing to move."""
        return self

    def to_meta(self) -> "Nothing":
        """Nothing has no contents either."""
        return self


class PlainConvBackbone(nn.Module):
    """The backbone (`tadp_ray.backbones.base.Backbone`)."""

    context_width = 0

    def __init__(self, width: int, levels: int) -> None:
        super().__init__()
        self.channels = tuple(width << level for level in range(levels))
        self.strides = tuple(4 << level for level in range(levels))
        self.multiple = self.strides[-1]
        sizes = (3, *self.channels)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, stride, 1), nn.GroupNorm(1, b), nn.GELU())
            for a, b, stride in zip(sizes, sizes[1:], (4, *[2] * levels), strict=False)
        )

    def latent_shape(self, images: Tensor) -> tuple[int, int, int]:
        """A latent is the image itself."""
        return tuple(images.shape[1:])

    def image_size(self, latents: Tensor) -> tuple[int, int]:
        """A latent is the image itself."""
        return tuple(latents.shape[-2:])

    def encode_image(self, images: Tensor, noise: Tensor | None) -> Tensor:
        """A latent is the image itself; no noise comes in."""
        return images

    def forward(self, latents: Tensor, context: Tensor) -> tuple[Tensor, ...]:
        """Features, largest level first; the context is empty."""
        features = []
        for stage in self.stages:
            latents = stage(latents)
            features.append(latents)
        return tuple(features)

    def attention_norms(self) -> list[nn.Parameter]:
        """There is no attention."""
        return []

    def enable_gradient_checkpointing(self) -> None:
        """There is little to save."""
