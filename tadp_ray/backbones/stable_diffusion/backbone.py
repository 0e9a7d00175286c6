"""Stable Diffusion, of any version, as a backbone: a frozen VAE encodes images, and a U-Net gives features."""

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tadp_ray.backbones.base import Posterior
from tadp_ray.backbones.stable_diffusion.autoencoder import latent_scale, posterior_in_bfloat16, posterior_of
from tadp_ray.backbones.stable_diffusion.config import UNetKeys
from tadp_ray.backbones.stable_diffusion.features import FeatureReader, feature_channels
from tadp_ray.backbones.stable_diffusion.layers import choose, cut_after
from tadp_ray.backbones.stable_diffusion.load import Diffusion
from tadp_ray.backbones.stable_diffusion.passes import make_passes
from tadp_ray.backbones.stable_diffusion.trainable import ATTENTION, set_trained


class StableDiffusionBackbone(nn.Module):
    """A U-Net as a `tadp_ray.backbones.base.Backbone`. The VAE is frozen, and neither a submodule nor part of the state.

    Without trained parameters the pass keeps nothing for a backward pass, unless the context requires gradients: a text adapter
    learns through the U-Net, whether it is trained or not.

    Args:
        diffusion: frozen; its U-Net is copied, so that several cells can share one loaded model.
        config: the recipe's `model`.
        tokens: length of a context.
        latent: (h, w) of the latent of a training image; used only for self-attention maps.
    """

    def __init__(self, diffusion: Diffusion, config: UNetKeys, tokens: int, latent: tuple[int, int] = (64, 64)) -> None:
        super().__init__()
        self._diffusion = (diffusion,)  # in a tuple, so that it is not a submodule
        self._config = config
        self.unet = copy.deepcopy(diffusion.unet)
        maps = config.attention_maps
        reading = choose(diffusion.unet, config.layers, maps, config.map_layers)
        cut_after(self.unet, reading.last)
        set_trained(self.unet, config.trainable)
        self._read = FeatureReader(self.unet, reading, maps, config.detach_attention, diffusion.condition)
        self.noise_samples = config.noise_samples
        combine, samples = config.timestep_features, config.noise_samples
        self._passes = make_passes(diffusion, config.timesteps, combine, samples, "model.timestep")
        channels = feature_channels(diffusion.unet, tokens - diffusion.pooled_rows, reading, maps, latent)
        self.channels = tuple(self._passes.channel_factor * count for count in channels)
        self.strides = tuple(diffusion.strides[level] for level in reading.features)
        self.multiple = diffusion.multiple
        self.context_width: int = diffusion.unet.config.cross_attention_dim

    def latent_shape(self, images: Tensor) -> tuple[int, int, int]:
        """Return (C, h, w) of the latent of one of the images."""
        diffusion = self._diffusion[0]
        height, width = (side // diffusion.factor for side in images.shape[-2:])
        return diffusion.vae.config.latent_channels, height, width

    def image_size(self, latents: Tensor) -> tuple[int, int]:
        """Return (H, W) in pixels of the images of latents."""
        height, width = (side * self._diffusion[0].factor for side in latents.shape[-2:])
        return height, width

    @torch.no_grad()
    def encode_image(self, images: Float[Tensor, "batch 3 height width"]) -> Posterior:
        """Return the distribution of the latents (B, C, h, w) of images (B, 3, H, W) in [-1, 1].

        TADP samples the posterior and scales the sample; VPD takes the mode, unscaled (see `LatentConfig`). In bfloat16 on a
        GPU, a VAE of that type encodes.
        """
        vae, latent = self._diffusion[0].vae, self._config.latent
        if images.is_cuda and torch.is_autocast_enabled("cuda"):
            posterior = posterior_in_bfloat16(self._diffusion[0].vae_in_bfloat16, images)
        else:
            posterior = posterior_of(vae, images)
        scale = latent_scale(vae) if latent.scale == "scaled" else 1.0
        std = posterior.std if latent.draw == "sample" else torch.zeros_like(posterior.mean)
        return Posterior(posterior.mean * scale, std * scale)

    def forward(
        self,
        latents: Float[Tensor, "batch c h w"],
        context: Float[Tensor, "batch tokens width"],
        noise: Float[Tensor, "batch samples c h w"] | None = None,
    ) -> tuple[Float[Tensor, "batch _ _ _"], ...]:
        """Return the features, largest level first, of clean latents (B, C, h, w); noise (B, S, C, h, w) is added here."""
        return self._passes(self._read, latents, context, noise)

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
