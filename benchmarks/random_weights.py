"""Stable Diffusion 1.5 with random weights, whole or at a fraction of its width."""

import shutil
from fractions import Fraction
from pathlib import Path

import torch
from diffusers import PNDMScheduler
from transformers import CLIPTextConfig, CLIPTextModel

from tadp_ray.backbones.latent.autoencoder import build_autoencoder
from tadp_ray.backbones.latent.load import frozen
from tadp_ray.backbones.stable_diffusion.build import build_unet
from tadp_ray.backbones.stable_diffusion.load import Diffusion

TOKENS, TEXT_WIDTH = 77, 768


def random_weights(width: Fraction, crop: int, device: str) -> Diffusion:
    """Return the networks for images of `crop` pixels; the same seed of torch gives the same weights on the same device.

    Channels are multiplied by `width`, at least 1/8; the numbers of layers, heads and tokens stay.
    """

    def scaled(*channels: int) -> tuple[int, ...]:
        return tuple(int(width * count) for count in channels)

    (groups,), (text,) = scaled(32), scaled(TEXT_WIDTH)
    config = CLIPTextConfig(hidden_size=text, intermediate_size=4 * text, num_hidden_layers=12, num_attention_heads=12)
    with torch.device(device):
        vae = build_autoencoder(crop, scaled(128, 256, 512, 512), layers=2, groups=groups)
        unet = build_unet(crop // 8, scaled(320, 640, 1280, 1280), text, heads=8, groups=groups)
        text_encoder = CLIPTextModel(config)
    return Diffusion(frozen(vae), frozen(unet), frozen(text_encoder), None)


def write_unweighted(folder: Path, tokenizer: Path) -> None:
    """Add to a diffusers folder what has no weights: a copy of a tokenizer, and Stable Diffusion 1.5's scheduler."""
    shutil.copytree(tokenizer, folder / "tokenizer", dirs_exist_ok=True)
    schedule = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    PNDMScheduler(**schedule, skip_prk_steps=True).save_pretrained(folder / "scheduler")
