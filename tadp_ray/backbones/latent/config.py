"""Keys of a latent diffusion model as a backbone: weights, latents, passes and training."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    GetPydanticSchema,
    Tag,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from tadp_ray.config.vocabulary import ExpandedText, StrictModel


class LatentConfig(StrictModel):
    """How images are encoded as latents. Short forms: `ls` (sample, scaled: TADP, VPD(LS)) and `vpd` (mode, raw: VPD, VPD(R))."""

    draw: Literal["sample", "mode"] = Field("sample", description="sample or mode of the VAE's posterior")
    scale: Literal["scaled", "raw"] = Field(
        "scaled", description="scaled: latents are multiplied by the VAE's scaling factor; raw: they are not"
    )

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        if isinstance(value, str) and value not in LATENTS:
            raise ValueError(f"expected {', '.join(LATENTS)}, or a group of draw and scale")
        return LATENTS[value] if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"enum": list(LATENTS)}, handler(core_schema)], "description": cls.__doc__}


Timestep = Annotated[int, Field(ge=0, lt=1000)]
TimestepFeatures = Literal["concatenated", "averaged"]


def one_or_several(value: object) -> str:
    """Return the kind of a value: `several` for a list, else `one`."""
    return "several" if isinstance(value, list | tuple) else "one"


class TrainableConfig(StrictModel):
    """Which parameters of the denoiser are trained."""

    kind: Literal["full", "frozen", "attention_only"] = Field(
        description="full: all parameters (code); frozen: no parameters (a probe); attention_only: in a U-Net, the attention "
        "blocks with their norms, projections and feed-forward layers; in a transformer, only its attention layers"
    )


class LoRAConfig(StrictModel):
    """A trained low-rank update of frozen layers of the denoiser: W + alpha / rank * B A, where B is zero at first (LoRA)."""

    kind: Literal["lora"]
    rank: int = Field(4, ge=1, description="rank of the update: the number of rows of A and of columns of B")
    alpha: float | None = Field(
        None, gt=0, description="the update is multiplied by alpha / rank; null: alpha equals rank"
    )
    # A union that takes names, too, passes on Python's lists, which are no tuples in strict mode.
    targets: Annotated[
        tuple[str, ...],
        BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value),
    ] = Field(
        ("to_q", "to_k", "to_v", "to_out.0"),
        min_length=1,
        description="names in diffusers, or ends of names, of the linear layers and convolutions to adapt. The default is the "
        "projections of every attention layer",
    )


def trainable_group(value: object) -> object:
    """Return the group of a name such as `lora`.

    Raises:
        ValueError: a group of another kind has keys of LoRA.
    """
    if isinstance(value, str):
        return {"kind": value}
    if isinstance(value, Mapping) and value.get("kind") in get_args(TrainableConfig.model_fields["kind"].annotation):
        for key in (name for name in LoRAConfig.model_fields if name != "kind" and name in value):
            raise ValueError(
                f"{key}: {value[key]} belongs to kind: lora, but kind is {value['kind']}; leave it out, or set kind: lora"
            )
    return value


def trainable_schema(core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
    """Return the JSON Schema of a name or a group."""
    kinds = [
        kind for group in (TrainableConfig, LoRAConfig) for kind in get_args(group.model_fields["kind"].annotation)
    ]
    return {"anyOf": [{"enum": kinds}, handler(core_schema)]}


Trainable = Annotated[
    TrainableConfig | LoRAConfig,
    Field(discriminator="kind"),
    BeforeValidator(trainable_group),
    GetPydanticSchema(get_pydantic_json_schema=trainable_schema),
]
"""What is trained of the denoiser. A name alone is short for a group with that kind."""


LATENTS = {"ls": {"draw": "sample", "scale": "scaled"}, "vpd": {"draw": "mode", "scale": "raw"}}


class LatentDiffusionKeys(StrictModel):
    """Keys of all backbone families whose denoiser works on the latents of a VAE."""

    weights: ExpandedText
    latent: LatentConfig = LatentConfig()
    timestep: Annotated[
        Annotated[Timestep, Tag("one")] | Annotated[tuple[Timestep, ...], Field(min_length=1), Tag("several")],
        Discriminator(one_or_several),
    ] = Field(
        1,
        description="timestep of the denoiser, or a list such as [1, 100, 300]: the denoiser runs once at each (code: 1)",
    )
    timestep_features: TimestepFeatures = Field(
        "concatenated",
        description="how the features at several timesteps, including their attention maps, are combined in each level",
    )
    noise_samples: int = Field(
        0,
        ge=0,
        description="number of noise samples. Each is added to the latents as in forward diffusion to the timestep, and the "
        "features are averaged over the samples; 0: the latents stay clean (code: 0)",
    )
    detach_attention: bool = Field(
        True, description="whether attention maps are detached, so that no gradient flows through them (code: true)"
    )
    trainable: Trainable = Field(
        TrainableConfig(kind="full"),
        description="which part of the denoiser is trained: full, frozen, attention_only or lora, or a group with kind and the "
        "keys of LoRA",
    )

    @field_validator("timestep", mode="before")
    @classmethod
    def _one(cls, value: Any) -> Any:
        # [1] is 1, so that the same training has one fingerprint.
        if isinstance(value, list | tuple):
            return value[0] if len(value) == 1 else tuple(value)
        return value

    @model_validator(mode="after")
    def _combined(self) -> "LatentDiffusionKeys":
        times = self.timesteps
        if len(set(times)) < len(times):
            raise ValueError(f"timestep: {list(times)} names a timestep twice; name each once")
        if len(times) == 1 and self.timestep_features != "concatenated":
            raise ValueError(
                f"timestep_features: {self.timestep_features} combines several timesteps, and timestep: {self.timestep} is "
                "one; name several, e.g. [1, 100], or leave timestep_features out"
            )
        if self.noise_samples and self.latent.scale == "raw":
            raise ValueError(
                f"noise_samples: {self.noise_samples} adds the noise of forward diffusion, which is of scaled latents, not of "
                "latent.scale: raw; use scaled, or leave noise_samples out"
            )
        return self

    @property
    def timesteps(self) -> Sequence[int]:
        """The timesteps of all passes."""
        return self.timestep if isinstance(self.timestep, tuple) else (self.timestep,)

    @property
    def encoding_of_images(self) -> dict[str, Any]:
        """The settings, besides the weights, that determine the latent of an image."""
        return self.latent.model_dump()

    @property
    def encoding_of_texts(self) -> dict[str, Any]:
        """The settings, besides the weights and a learned token, that determine the context of a text: none."""
        return {}
