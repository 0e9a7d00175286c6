"""PixArt as a registered family of backbones."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tadp_ray.backbones.pixart.weights import PARTS_PIXART, digest_pixart, locate_pixart
from tadp_ray.backbones.stable_diffusion.weights import lacks_weights, schedule_file
from tadp_ray.errors import UserError
from tadp_ray.files import file_digest
from tadp_ray.garbage import uncollected

if TYPE_CHECKING:
    # Their import takes seconds, and planning needs only hashes.
    from tadp_ray.backbones.pixart.backbone import PixArtBackbone
    from tadp_ray.backbones.pixart.load import PixArt


class PixArtFamily:
    """A `tadp_ray.backbones.base.Family`."""

    @staticmethod
    def origin(config: Any, seed: int) -> str:
        """Return the weights."""
        return config.weights

    @staticmethod
    def load(origin: str) -> "PixArt":
        """Load a frozen PixArt."""
        with uncollected():
            from tadp_ray.backbones.pixart.load import load_pixart

        return load_pixart(origin)

    @staticmethod
    def make_backbone(pretrained: "PixArt", config: Any, tokens: int, view: tuple[int, int]) -> "PixArtBackbone":
        """Return a copy of the transformer for training.

        Raises:
            UserError: the transformer lacks a block that is to be read; or noise is to be added, and the model has no noise
                schedule, or one that ends before the timestep.
        """
        from tadp_ray.backbones.pixart.backbone import PixArtBackbone

        return PixArtBackbone(pretrained, config, tokens)

    @staticmethod
    def sizes(config: Any) -> "tuple[PixArt, str]":
        """Load the networks; without weights, return on the meta device those of configurations or PixArt-Sigma's, and a note."""
        with uncollected():
            from tadp_ray.backbones.pixart.build import described_pixart, pixart_sigma
            from tadp_ray.backbones.pixart.load import load_pixart

        try:
            path = locate_pixart(config.weights)
        except UserError:
            # Files that exist but cannot be loaded are an error.
            if config.weights == "pocket" or Path(config.weights).exists():
                raise
            return pixart_sigma(), f"weights: {config.weights} is missing; using the sizes of PixArt-Sigma XL/2"
        if lacks_weights(path, "transformer"):
            return described_pixart(
                config.weights, path
            ), f"weights: {path} holds configurations alone; using their sizes"
        return load_pixart(config.weights), ""

    @staticmethod
    def places(config: Any) -> dict[str, str | Path]:
        """Return the weights, and where the schedule of added noise is."""
        return {"weights": config.weights, **({"schedule": config.weights} if config.noise_samples else {})}

    @staticmethod
    def digests(config: Any) -> dict[str, str]:
        """Return the content hashes of the weights, and of the schedule of added noise."""
        digests = {"weights": digest_pixart(config.weights)}
        if config.noise_samples:
            digests["schedule"] = file_digest(schedule_file(config.weights, PARTS_PIXART))
        return digests
