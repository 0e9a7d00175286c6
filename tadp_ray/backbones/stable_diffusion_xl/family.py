"""Stable Diffusion XL as a registered family of backbones."""

from typing import Any

from tadp_ray.backbones.latent.family import LatentFamily
from tadp_ray.backbones.stable_diffusion.family import StableDiffusion
from tadp_ray.backbones.stable_diffusion_xl.weights import PARTS_XL, digest_xl, locate_xl
from tadp_ray.registry import deferred


class StableDiffusionXL(LatentFamily):
    """Stable Diffusion XL."""

    title = "Stable Diffusion XL 1.0"
    parts = PARTS_XL
    locate = staticmethod(locate_xl)
    digest = staticmethod(digest_xl)
    open_weights = staticmethod(deferred("tadp_ray.backbones.stable_diffusion_xl.load:open_diffusion_xl"))
    described = staticmethod(deferred("tadp_ray.backbones.stable_diffusion_xl.build:described_xl"))
    published = staticmethod(deferred("tadp_ray.backbones.stable_diffusion_xl.build:stable_diffusion_xl"))
    make_backbone = staticmethod(StableDiffusion.make_backbone)

    @classmethod
    def origin(cls, config: Any, seed: int) -> tuple[str, int | None]:
        """Return weights, and the seed if U-Net and text encoders have random weights."""
        return config.weights, seed if config.unet_init == "random" else None
