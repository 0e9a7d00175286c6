"""Loads a diffusers folder of any family for image generation. Hashing and locating it need no torch."""

from pathlib import Path
from typing import TYPE_CHECKING

from tadp_ray.backbones.pixart.weights import digest_pixart, locate_pixart
from tadp_ray.backbones.stable_diffusion.weights import locate, weights_digest

if TYPE_CHECKING:
    from tadp_ray.backbones.image_generator import ImageGenerator


def is_pixart(weights: str | Path) -> bool:
    """Return whether a folder holds a transformer, and not a U-Net."""
    return (Path(weights) / "transformer").is_dir()


def generator_place(weights: str) -> Path:
    """Return the folder of a model: "pocket", a path, or a hub id of a Stable Diffusion.

    Raises:
        UserError: see `locate` and `locate_pixart`.
    """
    return locate_pixart(weights) if is_pixart(weights) else locate(weights)


def generator_digest(weights: str) -> str:
    """Return the hash of the contents of weights and configurations; errors are as for `generator_place`."""
    return digest_pixart(weights) if is_pixart(weights) else weights_digest(weights)


def load_generator(weights: str) -> "ImageGenerator":
    """Load a model with its noise schedule, on the CPU.

    Raises:
        UserError: see `load_text_to_image` and `load_pixart_to_image`.
    """
    if is_pixart(weights):
        from tadp_ray.backbones.pixart.text_to_image import load_pixart_to_image

        return load_pixart_to_image(weights)
    from tadp_ray.backbones.stable_diffusion.text_to_image import load_text_to_image

    return load_text_to_image(weights)
