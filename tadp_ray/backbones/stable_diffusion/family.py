"""Stable Diffusion as a registered family of backbones."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tadp_ray.backbones.stable_diffusion.weights import (
    check_kind,
    lacks_weights,
    locate,
    schedule_file,
    weights_digest,
)
from tadp_ray.errors import UserError
from tadp_ray.files import file_digest
from tadp_ray.garbage import uncollected

if TYPE_CHECKING:
    # Their import takes seconds, and planning needs only hashes.
    from tadp_ray.backbones.stable_diffusion.backbone import StableDiffusionBackbone
    from tadp_ray.backbones.stable_diffusion.load import Diffusion

Origin = tuple[str, Path | None, int | None]
"""(weights, file of a learned token, seed of random weights)."""


class StableDiffusion:
    """A `tadp_ray.backbones.base.Family`."""

    @staticmethod
    def origin(config: Any, seed: int) -> Origin:
        """Return weights, file of a learned token, and the seed if U-Net and text encoder have random weights."""
        return config.weights, config.embeddings, seed if config.unet_init == "random" else None

    @staticmethod
    def load(origin: Origin) -> "Diffusion":
        """Load a frozen Stable Diffusion."""
        with uncollected():
            from tadp_ray.backbones.stable_diffusion.load import open_diffusion

        return open_diffusion(*origin)

    @staticmethod
    def make_backbone(
        pretrained: "Diffusion", config: Any, tokens: int, view: tuple[int, int]
    ) -> "StableDiffusionBackbone":
        """Return a copy of the U-Net for training.

        Raises:
            UserError: the U-Net lacks a layer that is to be read; or noise is to be added, and the model has no noise schedule,
                or one that ends before the timestep.
        """
        from tadp_ray.backbones.stable_diffusion.backbone import StableDiffusionBackbone

        height, width = (side // pretrained.factor for side in view)
        return StableDiffusionBackbone(pretrained, config, tokens, (height, width))

    @staticmethod
    def sizes(config: Any) -> "tuple[Diffusion, str]":
        """Load the networks; without weights, return those of the configurations, or SD 1.5's, on the meta device, and a note."""
        with uncollected():
            from tadp_ray.backbones.stable_diffusion.build import described, stable_diffusion_15
            from tadp_ray.backbones.stable_diffusion.load import load_diffusion

        try:
            path = locate(config.weights)
        except UserError:
            # Files that exist but cannot be loaded are an error.
            if config.weights == "pocket" or Path(config.weights).exists():
                raise
            return (
                stable_diffusion_15(),
                f"weights: {config.weights} is missing; using the sizes of Stable Diffusion 1.5",
            )
        if lacks_weights(path):
            check_kind(config.weights, path, "stable_diffusion")
            return described(config.weights, path), f"weights: {path} holds configurations alone; using their sizes"
        return load_diffusion(config.weights), ""

    @staticmethod
    def places(config: Any) -> dict[str, str | Path]:
        """Return the weights, the file of a learned token if there is one, and where the schedule of added noise is."""
        places = {"weights": config.weights}
        if config.embeddings:
            places["token"] = config.embeddings
        if config.noise_samples:
            places["schedule"] = config.weights
        return places

    @staticmethod
    def digests(config: Any) -> dict[str, str]:
        """Return the content hashes of the weights, of a learned token, and of the schedule of added noise."""
        check_kind(config.weights, locate(config.weights), "stable_diffusion")
        digests = {"weights": weights_digest(config.weights)}
        if config.embeddings:
            digests["token"] = file_digest(config.embeddings)
        if config.noise_samples:
            digests["schedule"] = file_digest(schedule_file(config.weights))
        return digests
