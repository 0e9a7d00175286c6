"""The pocket model's VAE: Stable Diffusion's autoencoder with few channels, trained on scenes to a factor of four."""

import torch
import torch.nn.functional as F

from tadp_ray.backbones.latent.autoencoder import Autoencoder, build_autoencoder, decode, posterior_of
from tadp_ray.training.precision import fast_bfloat16


def build_vae(size: int, channels: tuple[int, ...] = (24, 48, 96)) -> Autoencoder:
    """Return an untrained VAE of Stable Diffusion's architecture: three levels halve the image twice."""
    return build_autoencoder(size, channels, layers=1, groups=8)


def as_pixels(images: torch.Tensor) -> torch.Tensor:
    """Turn uint8 (B, H, W, 3) into float (B, 3, H, W) in [-1, 1]."""
    return images.permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous()


def reconstruction_loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the absolute and squared error, plus the absolute error of average-pooled images.

    The pooled terms apply from the first step: without them pixel noise dominates and object colours fade.
    """
    error = output - target
    pooled = 2 * F.avg_pool2d(error, 4).abs().mean() + F.avg_pool2d(error, 2).abs().mean()
    return error.abs().mean() + pooled + 5 * error.square().mean()


def vae_loss(vae: Autoencoder, pixels: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Return the reconstruction loss of a posterior sample plus a small KL term; pixels (B, 3, H, W), noise (B, 4, h, w).

    The networks compute in bfloat16, or in float32 where that is faster.
    """
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=fast_bfloat16(pixels.device)):
        posterior = posterior_of(vae, pixels)
        output = decode(vae, posterior.mean + posterior.std * noise)
    divergence = posterior.kl().float().mean() / posterior.mean[0].numel()
    return reconstruction_loss(output.float(), pixels) + 5e-4 * divergence


@torch.no_grad()
def encode(
    vae: Autoencoder, images: torch.Tensor, device: torch.device, batch: int = 64
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and standard deviation of the unscaled latents of uint8 (N, H, W, 3) scenes, each (N, 4, h, w)."""
    posteriors = [posterior_of(vae, as_pixels(part.to(device))) for part in images.split(batch)]
    return torch.cat([p.mean for p in posteriors]), torch.cat([p.std for p in posteriors])


@torch.no_grad()
def psnr(vae: Autoencoder, images: torch.Tensor, device: torch.device) -> float:
    """Return the mean peak signal-to-noise ratio in dB of the reconstructions of uint8 (N, H, W, 3) scenes."""
    pixels = as_pixels(images.to(device))
    error = (decode(vae, posterior_of(vae, pixels).mean).clamp(-1, 1) - pixels).square()
    return (10 * torch.log10(4 / error.mean(dim=(1, 2, 3)))).mean().item()
