"""Builds Stable Diffusion XL's architecture without its weights, to estimate its cost."""

from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextConfig

from tadp_ray.backbones.latent.autoencoder import published_autoencoder
from tadp_ray.backbones.latent.load import explained, frozen
from tadp_ray.backbones.stable_diffusion.build import described_parts
from tadp_ray.backbones.stable_diffusion_xl.load import DiffusionXL, check_fit
from tadp_ray.backbones.stable_diffusion_xl.text_encoders import TextEncoders, TextEncodersConfig
from tadp_ray.backbones.stable_diffusion_xl.weights import LAYOUT_XL


def described_xl(weights: str, path: Path) -> DiffusionXL:
    """Return the architecture that the configurations in a diffusers folder describe, on the meta device.

    Raises:
        UserError: a configuration is missing or damaged, or they do not fit each other.
    """
    with explained(weights, path, LAYOUT_XL), torch.device("meta"):
        vae, unet = described_parts(path)
        encoders = [CLIPTextConfig.from_pretrained(path / part) for part in ("text_encoder", "text_encoder_2")]
        diffusion = DiffusionXL(vae, unet, frozen(TextEncoders(TextEncodersConfig(*encoders))), None)
    check_fit(diffusion, weights, path)
    return diffusion


def stable_diffusion_xl() -> DiffusionXL:
    """Return Stable Diffusion XL 1.0's architecture on the meta device.

    Source: the published configurations of its U-Net (2567.5 M parameters), VAE and text encoders (CLIP ViT-L/14, OpenCLIP
    ViT-bigG/14).
    """
    clip = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
    open_clip = CLIPTextConfig(
        hidden_size=1280,
        intermediate_size=5120,
        num_hidden_layers=32,
        num_attention_heads=20,
        projection_dim=1280,
        hidden_act="gelu",
    )
    with torch.device("meta"):
        vae = published_autoencoder(scaling_factor=0.13025)
        unet = UNet2DConditionModel(
            sample_size=128,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            block_out_channels=(320, 640, 1280),
            transformer_layers_per_block=(1, 2, 10),
            cross_attention_dim=2048,
            # diffusers calls the number of heads attention_head_dim; each head has 64 channels.
            attention_head_dim=(5, 10, 20),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )
        return DiffusionXL(frozen(vae), unet, frozen(TextEncoders(TextEncodersConfig(clip, open_clip))), None)
