"""Stable Diffusion XL as a registered family of backbones."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tadp_ray.backbones.stable_diffusion.family import StableDiffusion
from tadp_ray.backbones.stable_diffusion.weights import lacks_weights, schedule_file
from tadp_ray.backbones.stable_diffusion_xl.weights import digest_xl, locate_xl
from tadp_ray.errors import UserError
from tadp_ray.files import file_digest
from tadp_ray.garbage import uncollected

if TYPE_CHECKING:
    # Their import takes seconds, and planning needs only hashes.
    from tadp_ray.backbones.stable_diffusion_xl.load import DiffusionXL

Origin = tuple[str, int | None]
"""(weights, seed of random weights)."""


class StableDiffusionXL:
    """A `tadp_ray.backbones.base.Family`."""

    make_backbone = staticmethod(StableDiffusion.make_backbone)

    @staticmethod
    def origin(config: Any, seed: int) -> Origin:
        """Return weights, and the seed if U-Net and text encoders have random weights."""
        return config.weights, seed if config.unet_init == "random" else None

    @staticmethod
    def load(origin: Origin) -> "DiffusionXL":
        """Load a frozen Stable Diffusion XL."""
        with uncollected():
            from tadp_ray.backbones.stable_diffusion_xl.load import open_diffusion_xl

        return open_diffusion_xl(*origin)

    @staticmethod
    def sizes(config: Any) -> "tuple[DiffusionXL, str]":
        """Load the networks; without weights, return those of the configurations, or SDXL's, on the meta device, and a note."""
        with uncollected():
            from tadp_ray.backbones.stable_diffusion_xl.build import described_xl, stable_diffusion_xl
            from tadp_ray.backbones.stable_diffusion_xl.load import load_diffusion_xl

        try:
            path = locate_xl(config.weights)
        except UserError:
            # Files that exist but cannot be loaded are an error.
            if config.weights == "pocket" or Path(config.weights).exists():
                raise
            return (
                stable_diffusion_xl(),
                f"weights: {config.weights} is missing; using the sizes of Stable Diffusion XL 1.0",
            )
        if lacks_weights(path):
            return described_xl(config.weights, path), f"weights: {path} holds configurations alone; using their sizes"
        return load_diffusion_xl(config.weights), ""

    @staticmethod
    def places(config: Any) -> dict[str, str | Path]:
        """Return the weights, and where the schedule of added noise is."""
        return {"weights": config.weights, **({"schedule": config.weights} if config.noise_samples else {})}

    @staticmethod
    def digests(config: Any) -> dict[str, str]:
        """Return the content hashes of the weights, and of the schedule of added noise."""
        digests = {"weights": digest_xl(config.weights)}
        if config.noise_samples:
            digests["schedule"] = file_digest(schedule_file(config.weights))
        return digests
