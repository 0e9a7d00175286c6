"""Keys of PixArt as a backbone."""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from tadp_ray.backbones.latent.config import LatentDiffusionKeys, one_or_several
from tadp_ray.config.vocabulary import ExpandedText
from tadp_ray.registry import register_backbone

LEVELS = 4
"""Levels of the features: strides of 1/2, 1, 2 and 4 patches."""
Layers = Literal["spread"] | tuple[str, ...]
"""Blocks of a transformer: a named choice, or their names."""


@register_backbone("pixart", "tadp_ray.backbones.pixart.family:PixArtFamily")
class PixArtKeys(LatentDiffusionKeys):
    """PixArt-alpha or PixArt-Sigma: a frozen VAE and text encoder, and a trained diffusion transformer (DiT)."""

    backbone: Literal["pixart"]
    weights: ExpandedText = Field(description="a diffusers folder or a hub id")
    layers: Annotated[
        Annotated[Literal["spread"], Tag("one")] | Annotated[tuple[str, ...], Field(min_length=1), Tag("several")],
        Discriminator(one_or_several),
    ] = Field(
        "spread",
        description="blocks whose outputs are read; PixArt has block0 to block27. spread: four evenly spaced blocks that include "
        "the last one; or a list of block names: either four, the first for the largest level, or one that all levels read. "
        "Blocks after the last one that is read do not run",
    )
    attention_maps: Literal["none", "cross"] = Field(
        "cross",
        description="cross: append cross-attention maps, one for each token, to the middle two levels. The maps are averaged "
        "over all blocks that run; none: append no maps",
    )

    @model_validator(mode="after")
    def _levels(self) -> "PixArtKeys":
        if not isinstance(self.layers, str) and len(self.layers) not in (1, LEVELS):
            raise ValueError(
                f"layers: {list(self.layers)} names {len(self.layers)} blocks; name {LEVELS}, one for each level, or one for all"
            )
        return self

    @model_validator(mode="after")
    def _unread(self) -> "PixArtKeys":
        context = getattr(self, "context", None)  # of every model
        if context is None or len(context.sources) == 1:
            return self
        zeros = any(getattr(source, "map", None) == "captioner" for source in context.sources)
        if zeros and (context.join == "concatenate" or context.reads_text):
            raise ValueError(
                "context: the vectors of map: captioner are zeros at first, and pixart takes a row of zeros for padding, so that "
                "they would never be read or trained (a sum with a text's has none in its padding); use another map"
            )
        return self
