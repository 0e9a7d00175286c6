"""What all backbones on latents share: a frozen VAE encodes images, and passes over their latents give features."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tadp_ray.backbones.base import Posterior
from tadp_ray.backbones.latent.autoencoder import latent_scale, posterior_in_bfloat16, posterior_of
from tadp_ray.backbones.latent.config import LatentDiffusionKeys
from tadp_ray.backbones.latent.diffusion import LatentDiffusion
from tadp_ray.backbones.latent.passes import Read, make_passes


class LatentBackbone(nn.Module):
    """Base class of a `tadp_ray.backbones.base.Backbone` on the latents of a VAE.

    The VAE is frozen, and neither a submodule nor part of the state. Without trained parameters the pass keeps nothing for a
    backward pass, unless the context requires gradients: a text adapter learns through the denoiser, whether it is trained or
    not.

    Args:
        diffusion: frozen.
        config: the recipe's `model`.
    """

    _read: Read
    """Reads the features of one pass."""

    def __init__(self, diffusion: LatentDiffusion, config: LatentDiffusionKeys) -> None:
        super().__init__()
        self._diffusion = (diffusion,)  # in a tuple, so that it is not a submodule
        self._config = config
        self.noise_samples = config.noise_samples
        combine, samples = config.timestep_features, config.noise_samples
        self._passes = make_passes(diffusion, config.timesteps, combine, samples, "model.timestep")

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
