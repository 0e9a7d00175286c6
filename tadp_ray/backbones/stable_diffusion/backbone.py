"""Stable Diffusion as a backbone: a frozen VAE makes latents, a U-Net that is trained is read once at one timestep."""

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tadp_ray.backbones.stable_diffusion.autoencoder import latent_scale, posterior_of
from tadp_ray.backbones.stable_diffusion.config import StableDiffusionKeys
from tadp_ray.backbones.stable_diffusion.features import feature_channels, unet_features
from tadp_ray.backbones.stable_diffusion.load import Diffusion


class StableDiffusionBackbone(nn.Module):
    """The U-Net of `tadp_ray.backbones.base.Backbone`. The VAE is held beside it, frozen, and is not part of the state.

    All randomness comes in as arguments, so that it can be drawn for the whole global batch.

    Args:
        diffusion: frozen; its U-Net is copied, so that one loaded model serves many cells.
        config: how latents are made and the U-Net is read.
        tokens: of a context.
        latent: (h, w) of a training view's latent; counts only for self-attention maps.
    """

    def __init__(
        self, diffusion: Diffusion, config: StableDiffusionKeys, tokens: int, latent: tuple[int, int] = (64, 64)
    ) -> None:
        super().__init__()
        self._diffusion = (diffusion,)  # in a tuple, so that it is no submodule
        self._config = config
        self.unet = copy.deepcopy(diffusion.unet).requires_grad_(True)
        # Features are taken before the layers that turn them into noise. Kept, these would be work for nothing and
        # parameters without gradients, for which DistributedDataParallel would wait.
        self.unet.conv_norm_out, self.unet.conv_out = None, nn.Identity()
        self.channels = tuple(feature_channels(diffusion.unet, tokens, config.attention_maps, latent))
        self.strides = diffusion.strides
        self.multiple = diffusion.multiple
        self.context_width: int = diffusion.unet.config.cross_attention_dim

    def latent_shape(self, images: Tensor) -> tuple[int, int, int]:
        """(C, h, w) of the latent of one of the images."""
        diffusion = self._diffusion[0]
        height, width = (side // diffusion.factor for side in images.shape[-2:])
        return diffusion.vae.config.latent_channels, height, width

    def image_size(self, latents: Tensor) -> tuple[int, int]:
        """(H, W) in pixels of the images that latents are of."""
        height, width = (side * self._diffusion[0].factor for side in latents.shape[-2:])
        return height, width

    @torch.no_grad()
    def encode_image(
        self, images: Float[Tensor, "batch 3 height width"], noise: Float[Tensor, "batch c h w"] | None
    ) -> Float[Tensor, "batch c h w"]:
        """Latents (B, C, h, w) of images (B, 3, H, W) in [-1, 1].

        TADP samples the posterior and scales it; VPD takes the mode, unscaled (both published; see its `config`).
        `noise` is a standard normal of the latents' shape; with `draw: mode` it may be None.
        """
        vae = self._diffusion[0].vae
        posterior = posterior_of(vae, images)
        latents = posterior.mean + posterior.std * noise if self._config.latent.draw == "sample" else posterior.mode()
        return latents * latent_scale(vae) if self._config.latent.scale == "scaled" else latents

    def forward(
        self, latents: Float[Tensor, "batch c h w"], context: Float[Tensor, "batch tokens width"]
    ) -> tuple[Float[Tensor, "batch _ _ _"], ...]:
        """Features, largest level first, of clean latents (B, C, h, w), to which no noise is added."""
        timesteps = torch.full((len(latents),), self._config.timestep, device=latents.device)
        return unet_features(
            self.unet, latents, timesteps, context, self._config.attention_maps, self._config.detach_attention
        )

    def attention_norms(self) -> list[nn.Parameter]:
        """Parameters of the norms in attention blocks. diffusers names these blocks so wherever they stand."""
        return [
            parameter
            for name, part in self.unet.named_modules()
            if ".attentions." in name and isinstance(part, nn.GroupNorm | nn.LayerNorm)
            for parameter in part.parameters()
        ]

    def enable_gradient_checkpointing(self) -> None:
        """Compute activations again in the backward pass rather than keep them."""
        self.unet.enable_gradient_checkpointing()
