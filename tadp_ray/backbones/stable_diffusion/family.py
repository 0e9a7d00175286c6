"""Stable Diffusion as a registered family of backbones."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tadp_ray.backbones.stable_diffusion.weights import weights_digest
from tadp_ray.errors import UserError
from tadp_ray.files import file_digest

if TYPE_CHECKING:
    # Takes seconds to import, and planning asks for hashes alone.
    from tadp_ray.backbones.stable_diffusion.backbone import StableDiffusionBackbone
    from tadp_ray.backbones.stable_diffusion.load import Diffusion

Origin = tuple[str, Path | None, int | None]
"""(weights, file of a learned token, seed of random weights)."""


class StableDiffusion:
    """See `tadp_ray.backbones.base.Family`."""

    @staticmethod
    def origin(config: Any, seed: int) -> Origin:
        """Weights, learned token, and the seed where U-Net and text encoder lose what they learned."""
        return config.weights, config.embeddings, seed if config.unet_init == "random" else None

    @staticmethod
    def load(origin: Origin) -> "Diffusion":
        """A frozen Stable Diffusion of its own."""
        from tadp_ray.backbones.stable_diffusion.load import open_diffusion

        return open_diffusion(*origin)

    @staticmethod
    def make_backbone(
        pretrained: "Diffusion", config: Any, tokens: int, view: tuple[int, int]
    ) -> "StableDiffusionBackbone":
        """A copy of the U-Net, to be trained."""
        from tadp_ray.backbones.stable_diffusion.backbone import StableDiffusionBackbone

        height, width = (side // pretrained.factor for side in view)
        return StableDiffusionBackbone(pretrained, config, tokens, (height, width))

    @staticmethod
    def sizes(config: Any) -> "tuple[Diffusion, str]":
        """Where the weights are not here, Stable Diffusion 1.5's architecture on the meta device."""
        from tadp_ray.backbones.stable_diffusion.build import stable_diffusion_15
        from tadp_ray.backbones.stable_diffusion.load import load_diffusion

        try:
            return load_diffusion(config.weights), ""
        except UserError:
            # What lies there and cannot be loaded is no question of what a step costs.
            if config.weights == "pocket" or Path(config.weights).exists():
                raise
            return (
                stable_diffusion_15(),
                f"weights: {config.weights} is missing; using the sizes of Stable Diffusion 1.5",
            )

    @staticmethod
    def places(config: Any) -> dict[str, str | Path]:
        """The weights, and the file of a learned token."""
        return {"weights": config.weights, **({"token": config.embeddings} if config.embeddings else {})}

    @staticmethod
    def digests(config: Any) -> dict[str, str]:
        """Of weights and learned token."""
        token = {"token": file_digest(config.embeddings)} if config.embeddings else {}
        return {"weights": weights_digest(config.weights), **token}
