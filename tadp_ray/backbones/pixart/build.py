"""Builds PixArt's architecture without its weights."""

from pathlib import Path

import torch
from diffusers import PixArtTransformer2DModel
from torch import nn
from transformers import AutoConfig, T5Config

from tadp_ray.backbones.latent.autoencoder import published_autoencoder
from tadp_ray.backbones.latent.load import autoencoder_in, explained, frozen
from tadp_ray.backbones.pixart.load import PixArt, check_fit, text_config
from tadp_ray.backbones.pixart.text_encoder import TextEncoder, TextEncoderConfig
from tadp_ray.backbones.pixart.weights import LAYOUT_PIXART, TOKENS_SIGMA


def build_transformer(side: int, width: int, depth: int, heads: int, context_width: int) -> PixArtTransformer2DModel:
    """Return an untrained transformer of PixArt's architecture, without size conditions and without a predicted variance.

    Its first weights are PixArt's: each block starts without cross-attention, and the prediction at zero.

    Args:
        side: height and width of the latents in training.
        width: channels.
        depth: blocks.
        heads: of every attention layer.
        context_width: channels of a context.
    """
    transformer = PixArtTransformer2DModel(
        sample_size=side,
        num_layers=depth,
        num_attention_heads=heads,
        attention_head_dim=width // heads,
        cross_attention_dim=width,
        caption_channels=context_width,
        out_channels=4,
        interpolation_scale=1,
        use_additional_conditions=False,
    )
    for part in transformer.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)
    nn.init.xavier_uniform_(transformer.pos_embed.proj.weight.flatten(1))
    embedders = (transformer.adaln_single, transformer.caption_projection)
    for part in (module for embedder in embedders for module in embedder.modules() if isinstance(module, nn.Linear)):
        nn.init.normal_(part.weight, std=0.02)
    outputs = (transformer.proj_out, *(block.attn2.to_out[0] for block in transformer.transformer_blocks))
    for part in outputs:
        nn.init.zeros_(part.weight)
    return transformer


def described_pixart(weights: str, path: Path) -> PixArt:
    """Return the architecture that the configurations in a diffusers folder describe, on the meta device.

    Raises:
        UserError: a configuration is missing or damaged, or they do not fit each other.
    """
    with explained(weights, path, LAYOUT_PIXART), torch.device("meta"):
        kinds = {"vae": autoencoder_in(path), "transformer": PixArtTransformer2DModel}
        vae, transformer = (kind.from_config(kind.load_config(path, subfolder=part)) for part, kind in kinds.items())
        text = AutoConfig.from_pretrained(path / "text_encoder")
        diffusion = PixArt(frozen(vae), transformer, frozen(TextEncoder(text_config(path, text, end=1))), None)
    check_fit(diffusion, weights, path)
    return diffusion


def pixart_sigma() -> PixArt:
    """Return the architecture of PixArt-Sigma XL/2 for 1024 x 1024 pixels, on the meta device.

    Source: the configuration that diffusers' script convert_pixart_sigma_to_diffusers.py writes (610.9 M parameters), Stable
    Diffusion XL's VAE, and the encoder of T5 v1.1 XXL (4762.3 M parameters).
    """
    text = T5Config(
        d_model=4096,
        d_kv=64,
        d_ff=10240,
        num_layers=24,
        num_heads=64,
        vocab_size=32128,
        feed_forward_proj="gated-gelu",
    )
    with torch.device("meta"):
        transformer = PixArtTransformer2DModel(
            sample_size=128,
            num_layers=28,
            num_attention_heads=16,
            attention_head_dim=72,
            cross_attention_dim=1152,
            caption_channels=4096,
            out_channels=8,
            interpolation_scale=2,
            use_additional_conditions=False,
        )
        text_encoder = frozen(TextEncoder(TextEncoderConfig(text, TOKENS_SIGMA)))
        return PixArt(frozen(published_autoencoder(scaling_factor=0.13025)), transformer, text_encoder, None)
