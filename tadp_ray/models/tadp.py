"""The model of the paper: frozen VAE and text encoder, a U-Net read once at a fixed timestep, a task head."""

import copy

import torch
from torch import Tensor, nn

from tadp_ray.config.schema import ModelConfig
from tadp_ray.models.backbone import feature_channels, unet_features
from tadp_ray.models.diffusion import Diffusion
from tadp_ray.models.heads.segmentation import SegmentationHead


class TADP(nn.Module):
    """U-Net and head, trained together. The VAE is held beside them, frozen, and is not part of the state.

    All randomness comes in as arguments, so that it can be drawn for the whole global batch.

    Args:
        diffusion: frozen; its U-Net is copied, so that one loaded model serves many cells.
        classes: how many the head tells apart.
        config: how latents are made and the U-Net is read.
    """

    def __init__(self, diffusion: Diffusion, classes: int, config: ModelConfig) -> None:
        super().__init__()
        self._diffusion = (diffusion,)  # in a tuple, so that it is no submodule
        self._config = config
        self.unet = copy.deepcopy(diffusion.unet).requires_grad_(True)
        # Features are taken before the layers that turn them into noise. Kept, these would be work for nothing and
        # parameters without gradients, for which DistributedDataParallel would wait.
        self.unet.conv_norm_out, self.unet.conv_out = None, nn.Identity()
        channels = feature_channels(diffusion.unet, diffusion.tokens, config.maps)
        self.head = SegmentationHead(channels, classes, config.head)

    def latent_shape(self, images: Tensor) -> tuple[int, int, int]:
        """(C, h, w) of one image's latent."""
        diffusion = self._diffusion[0]
        height, width = (side // diffusion.factor for side in images.shape[-2:])
        return diffusion.vae.config.latent_channels, height, width

    @torch.no_grad()
    def encode_images(self, images: Tensor, noise: Tensor | None) -> Tensor:
        """Latents (B, C, h, w) of images (B, 3, H, W) in [-1, 1].

        TADP samples the posterior and scales it; VPD takes the mode, unscaled (both published; see ModelConfig).
        `noise` is a standard normal of the latents' shape; with `latent: mode` it may be None.
        """
        vae = self._diffusion[0].vae
        posterior = vae.encode(images).latent_dist
        latents = posterior.mean + posterior.std * noise if self._config.latent == "sample" else posterior.mode()
        return latents * vae.config.scaling_factor if self._config.latent_scale == "scaled" else latents

    def forward(self, latents: Tensor, context: Tensor, keep: Tensor | None = None) -> Tensor:
        """Logits (B, classes, h, w) at the latents' size.

        Args:
            latents: (B, C, h, w), clean: no noise is added.
            context: (B, L, D).
            keep: (B, head channels) dropout mask divided by its kept share; None for none.
        """
        timesteps = torch.full((len(latents),), self._config.timestep, device=latents.device)
        features = unet_features(self.unet, latents, timesteps, context, self._config.maps, self._config.detach_maps)
        return self.head(features, keep)
