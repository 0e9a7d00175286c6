"""The family, its (empty) frozen networks, and the backbone."""

from typing import Any

import torch
from torch import Tensor, nn

from tadp_ray.backbones.base import Posterior


class PlainConv:
    """The `tadp_ray.backbones.base.Family`. It has no files and loads nothing."""

    @staticmethod
    def origin(config: Any, seed: int) -> tuple:
        """Return the number of levels, on which `multiple` depends."""
        return (config.levels,)

    @staticmethod
    def load(origin: tuple) -> "NoNetworks":
        """Return an object without networks."""
        return NoNetworks(*origin)

    @staticmethod
    def make_backbone(pretrained: "NoNetworks", config: Any, tokens: int, view: tuple[int, int]) -> "PlainConvBackbone":
        """Return a new network."""
        return PlainConvBackbone(config.width, config.levels)

    @staticmethod
    def sizes(config: Any) -> "tuple[NoNetworks, str]":
        """Return the same as `load`."""
        return NoNetworks(config.levels), ""

    @staticmethod
    def places(config: Any) -> dict[str, str]:
        """Return no files."""
        return {}

    @staticmethod
    def digests(config: Any) -> dict[str, str]:
        """Return a version of the architecture. The random weights depend on it and on the seed."""
        return {"weights": "plain_conv 1"}


class NoNetworks:
    """A `tadp_ray.backbones.base.Pretrained` without networks."""

    tokens = 0
    tokenizer = text_encoder = image_encoder = None
    networks = ()
    learned_token = ""

    def __init__(self, levels: int) -> None:
        self.multiple = 2 ** (levels + 1)

    def to(self, device: torch.device) -> "NoNetworks":
        """Return self."""
        return self

    def to_meta(self) -> "NoNetworks":
        """Return self."""
        return self


class PlainConvBackbone(nn.Module):
    """The `tadp_ray.backbones.base.Backbone`."""

    context_width = 0
    noise_samples = 0

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
        """Return (3, H, W): a latent is the image."""
        return tuple(images.shape[1:])

    def image_size(self, latents: Tensor) -> tuple[int, int]:
        """Return (H, W): a latent is the image."""
        return tuple(latents.shape[-2:])

    def encode_image(self, images: Tensor) -> Posterior:
        """Return the images: nothing is random."""
        return Posterior(images, torch.zeros_like(images))

    def forward(self, latents: Tensor, context: Tensor, noise: None) -> tuple[Tensor, ...]:
        """Return the features, largest level first. The context is not used, and there is no noise."""
        features = []
        for stage in self.stages:
            latents = stage(latents)
            features.append(latents)
        return tuple(features)

    def attention_norms(self) -> list[nn.Parameter]:
        """Return no parameters, since there is no attention."""
        return []

    def enable_gradient_checkpointing(self) -> None:
        """Do nothing: activations take little memory."""
