"""Builds networks of Stable Diffusion's architecture without pretrained weights."""

from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from tadp_ray.backbones.latent.autoencoder import Autoencoder, published_autoencoder
from tadp_ray.backbones.latent.load import autoencoder_in, explained, frozen
from tadp_ray.backbones.latent.weights import LAYOUT
from tadp_ray.backbones.stable_diffusion.load import Diffusion, check_fit
from tadp_ray.backbones.stable_diffusion.weights import check_kind


def build_unet(
    side: int, channels: tuple[int, ...], context_width: int, heads: int, groups: int
) -> UNet2DConditionModel:
    """Return an untrained U-Net of Stable Diffusion's architecture: cross-attention at all levels but the smallest.

    Args:
        side: height and width of the latents in training.
        channels: channels of the levels, largest level first.
        context_width: channels of a context.
        heads: number of heads of every attention layer.
        groups: number of groups of every group norm.
    """
    return UNet2DConditionModel(
        sample_size=side,
        down_block_types=("CrossAttnDownBlock2D",) * (len(channels) - 1) + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (len(channels) - 1),
        block_out_channels=channels,
        layers_per_block=2,
        cross_attention_dim=context_width,
        # diffusers calls the number of heads attention_head_dim, and Stable Diffusion 1.5's config follows it.
        attention_head_dim=heads,
        norm_num_groups=groups,
    )


def described(weights: str, path: Path) -> Diffusion:
    """Return the architecture that the configurations in a diffusers folder describe, on the meta device.

    Raises:
        UserError: a configuration is missing, damaged or of another family, or they do not fit each other.
    """
    check_kind(weights, path, "stable_diffusion")
    with explained(weights, path, LAYOUT), torch.device("meta"):
        vae, unet = described_parts(path)
        text_encoder = frozen(CLIPTextModel(CLIPTextConfig.from_pretrained(path / "text_encoder")))
        diffusion = Diffusion(vae, unet, text_encoder, None)
    check_fit(diffusion, weights, path)
    return diffusion


def described_parts(path: Path) -> tuple[Autoencoder, UNet2DConditionModel]:
    """Return the autoencoder and the U-Net of the configurations in a diffusers folder, untrained."""
    kinds = {"vae": autoencoder_in(path), "unet": UNet2DConditionModel}
    vae, unet = (kind.from_config(kind.load_config(path, subfolder=part)) for part, kind in kinds.items())
    return frozen(vae), unet


def stable_diffusion_15() -> Diffusion:
    """Return Stable Diffusion 1.5's architecture on the meta device, to estimate its cost without its weights.

    Source: the published configurations of its U-Net (859.5 M parameters), VAE and text encoder (CLIP ViT-L/14).
    """
    text = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
    with torch.device("meta"):
        vae = published_autoencoder()
        unet = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8)
        return Diffusion(frozen(vae), unet, frozen(CLIPTextModel(text)), None)
