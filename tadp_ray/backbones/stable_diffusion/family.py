"""Stable Diffusion as a registered family of backbones."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tadp_ray.backbones.latent.family import LatentFamily
from tadp_ray.backbones.latent.weights import PARTS, locate
from tadp_ray.backbones.stable_diffusion.weights import digest_sd
from tadp_ray.registry import deferred

if TYPE_CHECKING:
    # Their import takes seconds, and planning needs only hashes.
    from tadp_ray.backbones.stable_diffusion.backbone import StableDiffusionBackbone
    from tadp_ray.backbones.stable_diffusion.load import Diffusion


class StableDiffusion(LatentFamily):
    """Stable Diffusion 1.x and 2.x."""

    title = "Stable Diffusion 1.5"
    parts = PARTS
    locate = staticmethod(locate)
    digest = staticmethod(digest_sd)
    open_weights = staticmethod(deferred("tadp_ray.backbones.stable_diffusion.load:open_diffusion"))
    described = staticmethod(deferred("tadp_ray.backbones.stable_diffusion.build:described"))
    published = staticmethod(deferred("tadp_ray.backbones.stable_diffusion.build:stable_diffusion_15"))
    load_generator = staticmethod(deferred("tadp_ray.backbones.stable_diffusion.text_to_image:load_text_to_image"))

    @classmethod
    def origin(cls, config: Any, seed: int) -> tuple[str, Path | None, int | None]:
        """Return weights, file of a learned token, and the seed if U-Net and text encoder have random weights."""
        return config.weights, config.embeddings, seed if config.unet_init == "random" else None

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
