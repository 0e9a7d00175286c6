"""The model of the paper: frozen VAE and text encoder, a U-Net read once at a fixed timestep, a task head."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from tadp_ray.backbones.stable_diffusion.features import feature_channels, unet_features
from tadp_ray.backbones.stable_diffusion.load import Diffusion, posterior_of
from tadp_ray.conditioning.text_encoder import TextAdapter
from tadp_ray.config.model import ModelConfig
from tadp_ray.tasks.norms import FeatureNorms
from tadp_ray.tasks.registry import build_head


class TADP(nn.Module):
    """U-Net and head, trained together. The VAE is held beside them, frozen, and is not part of the state.

    All randomness comes in as arguments, so that it can be drawn for the whole global batch.

    Args:
        diffusion: frozen; its U-Net is copied, so that one loaded model serves many cells.
        classes: how many the head tells apart.
        tokens: of a context.
        latent: (h, w) of a training view's latent; counts only for self-attention maps.
        config: how latents are made and the U-Net is read.
    """

    def __init__(
        self, diffusion: Diffusion, classes: int, config: ModelConfig, tokens: int, latent: tuple[int, int] = (64, 64)
    ) -> None:
        super().__init__()
        self._diffusion = (diffusion,)  # in a tuple, so that it is no submodule
        self._config = config
        self.unet = copy.deepcopy(diffusion.unet).requires_grad_(True)
        # Features are taken before the layers that turn them into noise. Kept, these would be work for nothing and
        # parameters without gradients, for which DistributedDataParallel would wait.
        self.unet.conv_norm_out, self.unet.conv_out = None, nn.Identity()
        self.adapter = TextAdapter(diffusion.unet.config.cross_attention_dim) if config.adapter else nn.Identity()
        channels = feature_channels(diffusion.unet, tokens, config.attention_maps, latent)
        self.norms = FeatureNorms(channels) if config.feature_norm else nn.Identity()
        self.head = build_head(channels, classes, config.head)

    def latent_shape(self, images: Tensor) -> tuple[int, int, int]:
        """(C, h, w) of one image's latent."""
        diffusion = self._diffusion[0]
        height, width = (side // diffusion.factor for side in images.shape[-2:])
        return diffusion.vae.config.latent_channels, height, width

    @torch.no_grad()
    def encode_images(self, images: Tensor, noise: Tensor | None) -> Tensor:
        """Latents (B, C, h, w) of images (B, 3, H, W) in [-1, 1].

        TADP samples the posterior and scales it; VPD takes the mode, unscaled (both published; see ModelConfig).
        `noise` is a standard normal of the latents' shape; with `draw: mode` it may be None.
        """
        vae = self._diffusion[0].vae
        posterior = posterior_of(vae, images)
        latents = posterior.mean + posterior.std * noise if self._config.latent.draw == "sample" else posterior.mode()
        return latents * vae.config.scaling_factor if self._config.latent.scale == "scaled" else latents

    def forward(
        self, latents: Tensor, context: Tensor, dropout_mask: Tensor | None = None, targets: list[dict] | None = None
    ) -> Any:
        """What the head makes of the features: logits or metres (B, C, h, w), or boxes, or the losses of boxes.

        Args:
            latents: (B, C, h, w), clean: no noise is added.
            context: (B, L, D).
            dropout_mask: (B, head channels), divided by the share that is kept; None for no dropout.
            targets: boxes of each image, for a head that samples them in training.
        """
        timesteps = torch.full((len(latents),), self._config.timestep, device=latents.device)
        context = self.adapter(context)
        features = unet_features(
            self.unet, latents, timesteps, context, self._config.attention_maps, self._config.detach_attention
        )
        features = self.norms(features)
        height, width = (side * self._diffusion[0].factor for side in latents.shape[-2:])
        return self.head(features, dropout_mask=dropout_mask, image_size=(height, width), targets=targets)
