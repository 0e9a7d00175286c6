"""Keys of Stable Diffusion as a backbone: weights, latents, timestep, attention maps and what is trained."""

from typing import Any, Literal, get_args

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from tadp_ray.config.vocabulary import ExpandedPath, ExpandedText, Maps, StrictModel
from tadp_ray.registry import register_backbone


class LatentConfig(StrictModel):
    """Encoding of images as latents. Short forms of the published pairs: `ls` (TADP, VPD(LS)) and `vpd` (VPD, VPD(R))."""

    draw: Literal["sample", "mode"] = Field("sample", description="a sample of the VAE's posterior, or its mode")
    scale: Literal["scaled", "raw"] = Field("scaled", description="multiply by the VAE's scaling factor, or not")

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        if isinstance(value, str) and value not in LATENTS:
            raise ValueError(f"expected {', '.join(LATENTS)}, or a group of draw and scale")
        return LATENTS[value] if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"enum": list(LATENTS)}, handler(core_schema)], "description": cls.__doc__}


class TrainableConfig(StrictModel):
    """The parameters of the U-Net that are trained. A name alone is short for a group with that kind."""

    kind: Literal["full", "frozen", "attention_only"] = Field(
        description="full: all (code); frozen: none, a probe; attention_only: those of the attention blocks, with their norms, "
        "projections and feed-forward layers"
    )

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        return {"kind": value} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        kinds = get_args(cls.model_fields["kind"].annotation)
        return {"anyOf": [{"enum": list(kinds)}, handler(core_schema)], "description": cls.__doc__}


LATENTS = {"ls": {"draw": "sample", "scale": "scaled"}, "vpd": {"draw": "mode", "scale": "raw"}}


@register_backbone("stable_diffusion", "tadp_ray.backbones.stable_diffusion.family:StableDiffusion")
class StableDiffusionKeys(StrictModel):
    """Stable Diffusion 1.x or 2.x: a frozen VAE and text encoder, and a U-Net of which `trainable` is trained."""

    backbone: Literal["stable_diffusion"] = "stable_diffusion"
    weights: ExpandedText = Field(
        "pocket",
        description="pocket (shipped with the package), a diffusers folder, a hub id, or a single-file checkpoint",
    )
    embeddings: ExpandedPath | None = Field(
        None,
        description="file of a learned token (from tadp-ray personalize, or a published learned_embeds.bin) for captions and "
        "caption.modifiers",
    )
    unet_init: Literal["pretrained", "random"] = Field(
        "pretrained",
        description="random: random weights in U-Net and text encoder, not in the VAE (a control experiment)",
    )
    latent: LatentConfig = LatentConfig()
    timestep: int = Field(1, ge=0, lt=1000, description="the U-Net's only timestep; no noise is added (code: 1)")
    attention_maps: Maps = Field(
        "cross", description="attention maps to append to the features (code: cross; none for depth)"
    )
    detach_attention: bool = Field(
        True, description="detach the attention maps from the gradient, as in the published code"
    )
    trainable: TrainableConfig = TrainableConfig(kind="full")

    @property
    def encoding_of_images(self) -> dict[str, Any]:
        """The settings, besides the weights, that determine the latent of an image."""
        return self.latent.model_dump()

    @property
    def why_one_size(self) -> str:
        """The reason why the model takes images of the training size only. Empty: it takes any size."""
        if self.attention_maps != "cross+self":
            return ""
        return "model.attention_maps=cross+self: self-attention maps have a channel for every pixel"
