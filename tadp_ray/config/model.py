"""What is trained, in YAML: the diffusion model, how its U-Net is read, and the task's head."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import Discriminator, Field, GetJsonSchemaHandler, Tag, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from tadp_ray.config.vocabulary import ExpandedPath, Maps, PlaceText, StrictModel
from tadp_ray.registry import HEADS


def kind_of_head(value: object) -> object:
    """The kind that a recipe names, or the default one."""
    return value.get("kind", DEFAULT_HEAD) if isinstance(value, dict) else getattr(value, "kind", None)


DEFAULT_HEAD = "semantic_fpn"
if TYPE_CHECKING:
    HeadConfig = Any
else:
    KINDS = tuple(Annotated[head.config, Tag(kind)] for kind, head in HEADS.items())
    HeadConfig = Annotated[Union[KINDS], Discriminator(kind_of_head)]  # noqa: UP007


class LatentConfig(StrictModel):
    """How an image becomes a latent; `ls` (TADP, VPD(LS)) and `vpd` (VPD, VPD(R)) stand for the published pairs."""

    draw: Literal["sample", "mode"] = Field("sample", description="sample of the VAE's posterior, or its mode")
    scale: Literal["scaled", "raw"] = Field("scaled", description="times the VAE's scaling factor, or not")

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        if isinstance(value, str) and value not in LATENTS:
            raise ValueError(f"expected {', '.join(LATENTS)}, or a group of draw and scale")
        return LATENTS[value] if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"enum": list(LATENTS)}, handler(core_schema)], "description": cls.__doc__}


LATENTS = {"ls": {"draw": "sample", "scale": "scaled"}, "vpd": {"draw": "mode", "scale": "raw"}}


class ModelConfig(StrictModel):
    """The frozen Stable Diffusion and how its U-Net is read."""

    weights: PlaceText = Field(
        "pocket",
        description="pocket (shipped with the package), a diffusers folder, a hub id, or a single-file checkpoint",
    )
    embeddings: ExpandedPath | None = Field(
        None,
        description="file with a learned token (tadp-ray personalize, or a published learned_embeds.bin), which captions may "
        "then say, as in caption.modifiers",
    )
    unet_init: Literal["pretrained", "random"] = Field(
        "pretrained", description="random: U-Net and text encoder lose what they learned (a control; the VAE stays)"
    )
    latent: LatentConfig = LatentConfig()
    pixel_normalization: Literal["half", "imagenet"] = Field(
        "half",
        description="[-1, 1], or ImageNet's mean and deviation (code: imagenet for detection and across domains)",
    )
    timestep: int = Field(1, ge=0, lt=1000, description="the U-Net's one timestep; no noise is added (code: 1)")
    attention_maps: Maps = Field(
        "cross", description="attention maps that are appended to the features (code: cross; none for depth)"
    )
    adapter: bool = Field(False, description="learn c + gamma * MLP(c) of the context c: the text adapter (TA)")
    detach_attention: bool = Field(True, description="maps carry no gradient, as in the published code")
    feature_norm: bool = Field(
        False,
        description="batch-normalise the features before the head (code: off; a U-Net's channels differ in scale)",
    )
    head: HeadConfig = HEADS[DEFAULT_HEAD].config()
