"""Keys of a diffusers U-Net, its layers and maps, and of Stable Diffusion as a backbone."""

from typing import Annotated, Literal

from pydantic import (
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from tadp_ray.backbones.latent.config import LatentDiffusionKeys, one_or_several
from tadp_ray.config.vocabulary import ExpandedPath, ExpandedText, Maps
from tadp_ray.registry import register_backbone

Half = Literal["decoder", "encoder", "encoder+decoder"]
Layers = Half | tuple[str, ...]
"""Layers of a U-Net: a named choice, or their names."""


LayersKey = Annotated[
    Annotated[Half, Tag("one")] | Annotated[tuple[str, ...], Field(min_length=1), Tag("several")],
    Discriminator(one_or_several),
]


class UNetKeys(LatentDiffusionKeys):
    """Keys of all backbone families whose denoiser is a diffusers U-Net."""

    unet_init: Literal["pretrained", "random"] = Field(
        "pretrained",
        description="pretrained: the model's weights; random: random weights in the U-Net and the text encoder, but not in the "
        "VAE (a control experiment)",
    )
    layers: LayersKey = Field(
        "decoder",
        description="layers of the U-Net whose outputs are read. decoder: up0.2, up1.1, up2.1, up3.1, the published choice; "
        "encoder: the last layer of each level on the downward path, down0.1 to down3.1; encoder+decoder: both; or a list of "
        "names: down0.0 to down3.1, mid.0, up3.0 to up0.2. Several layers of a level are concatenated. Level 0 is the largest. "
        "Layers after the last one that is read do not run (code: decoder)",
    )
    attention_maps: Maps = Field(
        "cross", description="attention maps that are appended to the features (code: cross; for depth: none)"
    )
    map_layers: LayersKey = Field(
        "encoder+decoder",
        description="layers whose attention maps are averaged in each level, if the layers run. encoder, decoder or "
        "encoder+decoder: those of the middle two levels on the downward path, the upward path, or both; or a list of names "
        "(code: encoder+decoder)",
    )

    @model_validator(mode="after")
    def _read(self) -> "UNetKeys":
        for key, layers in (("layers", self.layers), ("map_layers", self.map_layers)):
            if not isinstance(layers, str) and len(set(layers)) < len(layers):
                raise ValueError(f"{key}: {list(layers)} names a layer twice; name each once")
        if self.attention_maps == "none" and self.map_layers != "encoder+decoder":
            raise ValueError(
                f"map_layers: {self.map_layers} chooses layers with attention maps, of which attention_maps: none reads none; "
                "use cross, or leave map_layers out"
            )
        return self

    @property
    def why_one_size(self) -> str:
        """The reason why the model takes images of the training size only. Empty: it takes any size."""
        if self.attention_maps != "cross+self":
            return ""
        return "model.attention_maps=cross+self: self-attention maps have a channel for every pixel"


@register_backbone("stable_diffusion", "tadp_ray.backbones.stable_diffusion.family:StableDiffusion")
class StableDiffusionKeys(UNetKeys):
    """Stable Diffusion 1.x or 2.x: a frozen VAE and text encoder, and a trained U-Net."""

    backbone: Literal["stable_diffusion"] = "stable_diffusion"
    weights: ExpandedText = Field(
        "pocket",
        description="pocket (shipped with the package), a diffusers folder, a hub id, or a single-file checkpoint",
    )
    embeddings: ExpandedPath | None = Field(
        None,
        description="file with a learned token, from tadp-ray personalize or a published learned_embeds.bin. Captions and "
        "caption.modifiers can use the token",
    )
