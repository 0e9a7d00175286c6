"""Stable Diffusion, of any version, as a backbone: a frozen VAE encodes images, and a U-Net gives features."""

import copy

from torch import nn

from tadp_ray.backbones.latent.backbone import LatentBackbone
from tadp_ray.backbones.latent.trainable import ATTENTION, set_trained
from tadp_ray.backbones.stable_diffusion.config import UNetKeys
from tadp_ray.backbones.stable_diffusion.features import FeatureReader, feature_channels
from tadp_ray.backbones.stable_diffusion.layers import choose, cut_after
from tadp_ray.backbones.stable_diffusion.load import Diffusion


class StableDiffusionBackbone(LatentBackbone):
    """A U-Net as a `tadp_ray.backbones.base.Backbone`.

    Args:
        diffusion: frozen; its U-Net is copied, so that several cells can share one loaded model.
        config: the recipe's `model`.
        tokens: length of a context.
        latent: (h, w) of the latent of a training image; used only for self-attention maps.
    """

    def __init__(self, diffusion: Diffusion, config: UNetKeys, tokens: int, latent: tuple[int, int] = (64, 64)) -> None:
        super().__init__(diffusion, config)
        self.unet = copy.deepcopy(diffusion.unet)
        maps = config.attention_maps
        reading = choose(diffusion.unet, config.layers, maps, config.map_layers)
        cut_after(self.unet, reading.last)
        set_trained(self.unet, config.trainable)
        self._read = FeatureReader(self.unet, reading, maps, config.detach_attention, diffusion.condition)
        channels = feature_channels(diffusion.unet, tokens - diffusion.pooled_rows, reading, maps, latent)
        self.channels = tuple(self._passes.channel_factor * count for count in channels)
        self.strides = tuple(diffusion.strides[level] for level in reading.features)
        self.multiple = diffusion.multiple
        self.context_width: int = diffusion.unet.config.cross_attention_dim

    def attention_norms(self) -> list[nn.Parameter]:
        """Return the parameters of the norms in attention blocks."""
        return [
            parameter
            for name, part in self.unet.named_modules()
            if ATTENTION in name and isinstance(part, nn.GroupNorm | nn.LayerNorm)
            for parameter in part.parameters()
        ]

    def enable_gradient_checkpointing(self) -> None:
        """Recompute activations in the backward pass instead of storing them."""
        self.unet.enable_gradient_checkpointing()
