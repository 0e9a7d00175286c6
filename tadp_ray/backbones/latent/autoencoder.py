"""The autoencoder of a latent diffusion model: images in [-1, 1] to latents and back.

The denoiser works on scaled latents: those of the autoencoder times `latent_scale`.
"""

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor

Autoencoder = AutoencoderKL | AutoencoderTiny
"""Stable Diffusion's autoencoder, or TAESD, a small one with the same latents, which takes a fraction of the time."""


def build_autoencoder(side: int, channels: tuple[int, ...], layers: int, groups: int) -> Autoencoder:
    """Return an untrained autoencoder of Stable Diffusion's architecture, with 4 latent channels.

    Args:
        side: height and width in pixels of the images in training.
        channels: channels of the levels, each of half the size of the one before.
        layers: residual blocks per level.
        groups: number of groups of every group norm.
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


def published_autoencoder(scaling_factor: float = 0.18215) -> AutoencoderKL:
    """Return the architecture of the VAE of every published version, which differ in the scale of latents."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        scaling_factor=scaling_factor,
    )


def posterior_of(vae: Autoencoder, images: Tensor) -> DiagonalGaussianDistribution:
    """Return the normal distribution of the unscaled latents of images (B, 3, H, W) in [-1, 1].

    For TAESD, it is a single point.
    """
    encoded = vae.encode(images)
    if isinstance(vae, AutoencoderTiny):
        means = encoded.latents
        return DiagonalGaussianDistribution(torch.cat([means, torch.zeros_like(means)], dim=1), deterministic=True)
    return encoded.latent_dist


def posterior_in_bfloat16(vae: Autoencoder, images: Tensor) -> DiagonalGaussianDistribution:
    """Return `posterior_of` in float32, encoded by a VAE in bfloat16, outside of autocast.

    Autocast would compute every norm in float32, and the VAE is frozen, so that it needs no weights in float32.
    """
    with torch.autocast(images.device.type, enabled=False):
        found = posterior_of(vae, images.to(torch.bfloat16))
    return DiagonalGaussianDistribution(found.parameters.float(), deterministic=found.deterministic)


@torch.no_grad()
def mean_latents(vae: Autoencoder, images: Tensor) -> Tensor:
    """Return the mean scaled latents (B, C, h, w) of images (B, 3, H, W) in [-1, 1]."""
    return posterior_of(vae, images).mean * latent_scale(vae)


def decode(vae: Autoencoder, latents: Tensor) -> Tensor:
    """Return the images (B, 3, H, W), approximately in [-1, 1], of unscaled latents (B, C, h, w)."""
    return vae.decode(latents).sample


def latent_scale(vae: Autoencoder) -> float:
    """Return the factor from latents to the denoiser's scaled latents, whose standard deviation is about 1."""
    return vae.config.scaling_factor


def set_latent_scale(vae: Autoencoder, scale: float) -> None:
    """Set the scale in the autoencoder's configuration."""
    vae.register_to_config(scaling_factor=scale)


def image_side(vae: Autoencoder) -> int:
    """Return the height and width in pixels of the images that the autoencoder was trained on."""
    return vae.config.sample_size
