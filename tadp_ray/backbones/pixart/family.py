"""PixArt as a registered family of backbones."""

from typing import TYPE_CHECKING, Any

from tadp_ray.backbones.latent.family import LatentFamily
from tadp_ray.backbones.pixart.weights import PARTS_PIXART, digest_pixart, locate_pixart
from tadp_ray.registry import deferred

if TYPE_CHECKING:
    # Their import takes seconds, and planning needs only hashes.
    from tadp_ray.backbones.pixart.backbone import PixArtBackbone
    from tadp_ray.backbones.pixart.load import PixArt


class PixArtFamily(LatentFamily):
    """PixArt-alpha and PixArt-Sigma."""

    title = "PixArt-Sigma XL/2"
    parts = PARTS_PIXART
    denoiser = "transformer"
    locate = staticmethod(locate_pixart)
    digest = staticmethod(digest_pixart)
    open_weights = staticmethod(deferred("tadp_ray.backbones.pixart.load:load_pixart"))
    described = staticmethod(deferred("tadp_ray.backbones.pixart.build:described_pixart"))
    published = staticmethod(deferred("tadp_ray.backbones.pixart.build:pixart_sigma"))
    load_generator = staticmethod(deferred("tadp_ray.backbones.pixart.text_to_image:load_pixart_to_image"))

    @staticmethod
    def make_backbone(pretrained: "PixArt", config: Any, tokens: int, view: tuple[int, int]) -> "PixArtBackbone":
        """Return a copy of the transformer for training.

        Raises:
            UserError: the transformer lacks a block that is to be read; or noise is to be added, and the model has no noise
                schedule, or one that ends before the timestep.
        """
        from tadp_ray.backbones.pixart.backbone import PixArtBackbone

        return PixArtBackbone(pretrained, config, tokens)
