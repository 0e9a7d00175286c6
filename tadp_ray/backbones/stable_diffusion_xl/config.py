"""Keys of Stable Diffusion XL as a backbone."""

from typing import Literal

from pydantic import Field

from tadp_ray.backbones.stable_diffusion.config import LayersKey, UNetKeys
from tadp_ray.config.vocabulary import ExpandedText
from tadp_ray.registry import register_backbone


@register_backbone("stable_diffusion_xl", "tadp_ray.backbones.stable_diffusion_xl.family:StableDiffusionXL")
class StableDiffusionXLKeys(UNetKeys):
    """Stable Diffusion XL: a frozen VAE and two frozen text encoders, and a trained U-Net with three levels."""

    backbone: Literal["stable_diffusion_xl"]
    weights: ExpandedText = Field(description="a diffusers folder or a hub id")
    layers: LayersKey = Field(
        "decoder",
        description="layers of the U-Net whose outputs are read. decoder: up0.2, up1.1, up2.1; encoder: the last layer of each "
        "level on the downward path, down0.1 to down2.1; encoder+decoder: both; or a list of names: down0.0 to down2.1, mid.0, "
        "up2.0 to up0.2. Several layers of a level are concatenated. Level 0 is the largest. Layers after the last one that is "
        "read do not run",
    )
    map_layers: LayersKey = Field(
        "encoder+decoder",
        description="layers whose attention maps are averaged in each level, if the layers run. encoder, decoder or "
        "encoder+decoder: those of levels 1 and 2 on the downward path, the upward path, or both; or a list of names. Only "
        "levels 1 and 2 have attention",
    )

    @property
    def why_texts_alone(self) -> str:
        """Its contexts end with a vector of the whole text."""
        return "model.backbone: stable_diffusion_xl reads a vector of the whole text"
