"""The autoencoder of a Stable Diffusion: images in [-1, 1] to latents and back.

The U-Net works on scaled latents, `latent_scale` times those that the autoencoder itself gives and takes.
"""

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor

Autoencoder = AutoencoderKL | AutoencoderTiny
"""Stable Diffusion's own, or its tiny twin (TAESD), which has the same latents at a fraction of the time."""


def build_autoencoder(side: int, channels: tuple[int, ...], layers: int, groups: int) -> Autoencoder:
    """An untrained autoencoder of Stable Diffusion's architecture, with 4 channels of latents.

    Args:
        side: height and width in pixels of the images that it is trained on.
        channels: widths of its levels; an image is halved between them.
        layers: residual blocks of a level.
        groups: of every group norm.
    """
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        block_out_channels=channels,
        layers_per_block=layers,
        latent_channels=4,
        norm_num_groups=groups,
        sample_size=side,
    )


def posterior_of(vae: Autoencoder, images: Tensor) -> DiagonalGaussianDistribution:
    """The normal distribution of latents, unscaled, of images (B, 3, H, W) in [-1, 1]: `mean`, `std` and `kl()`.

    A tiny autoencoder's is a point.
    """
    found = vae.encode(images)
    if isinstance(vae, AutoencoderTiny):
        means = found.latents
        return DiagonalGaussianDistribution(torch.cat([means, torch.zeros_like(means)], dim=1), deterministic=True)
    return found.latent_dist


@torch.no_grad()
def mean_latents(vae: Autoencoder, images: Tensor) -> Tensor:
    """Scaled latents (B, C, h, w) of images (B, 3, H, W) in [-1, 1]: the mean of the posterior."""
    return posterior_of(vae, images).mean * latent_scale(vae)


def decode(vae: Autoencoder, latents: Tensor) -> Tensor:
    """Images (B, 3, H, W), about in [-1, 1], of unscaled latents (B, C, h, w)."""
    return vae.decode(latents).sample


def latent_scale(vae: Autoencoder) -> float:
    """What latents are multiplied by for the U-Net, so that their spread is about 1."""
    return vae.config.scaling_factor


def set_latent_scale(vae: Autoencoder, scale: float) -> None:
    """Keep another scale in the autoencoder's configuration."""
    vae.register_to_config(scaling_factor=scale)


def image_side(vae: Autoencoder) -> int:
    """Height and width in pixels of the images that the autoencoder was trained on."""
    return vae.config.sample_size
