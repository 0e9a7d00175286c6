"""What is trained, in YAML: a backbone with its own keys, and the head of the task."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import Discriminator, Field, Tag, create_model

from tadp_ray.config.vocabulary import StrictModel
from tadp_ray.registry import BACKBONES, HEADS

DEFAULT_BACKBONE = "stable_diffusion"
DEFAULT_HEAD = "semantic_fpn"


def kind_of_head(value: object) -> object:
    """The kind that a recipe names, or the default one."""
    return value.get("kind", DEFAULT_HEAD) if isinstance(value, dict) else getattr(value, "kind", None)


if TYPE_CHECKING:
    HeadConfig = Any
else:
    KINDS = tuple(Annotated[head.config, Tag(kind)] for kind, head in HEADS.items())
    HeadConfig = Annotated[Union[KINDS], Discriminator(kind_of_head)]  # noqa: UP007


class ModelConfig(StrictModel):
    """The keys of every model; those of its backbone come to them."""

    backbone: str
    pixel_normalization: Literal["half", "imagenet"] = Field(
        "half",
        description="[-1, 1], or ImageNet's mean and deviation (code: imagenet for detection and across domains)",
    )
    adapter: bool = Field(False, description="learn c + gamma * MLP(c) of the context c: the text adapter (TA)")
    feature_norm: bool = Field(
        False,
        description="batch-normalise the features before the head (code: off; a U-Net's channels differ in scale)",
    )
    head: HeadConfig = HEADS[DEFAULT_HEAD].config()

    @property
    def encoding_of_images(self) -> dict[str, Any]:
        """What decides how an image becomes a latent, beside the weights."""
        return {}

    @property
    def why_one_size(self) -> str:
        """Why a model takes no other size of an image than a training view's; empty: it takes any."""
        return ""


def class_name(backbone: str) -> str:
    """`StableDiffusionModel` for stable_diffusion."""
    return "".join(part.capitalize() for part in backbone.split("_")) + "Model"


MODELS: dict[str, Any] = {
    name: create_model(class_name(name), __base__=(entry.config, ModelConfig), __doc__=entry.config.__doc__)
    for name, entry in BACKBONES.items()
}
"""The group of keys of a model by the name of its backbone."""


def __getattr__(name: str) -> Any:
    """One of `MODELS` by its class name, as pickle looks it up in another process."""
    found = {model.__name__: model for model in MODELS.values()}
    if name not in found:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return found[name]


def name_of_backbone(value: object) -> object:
    """The backbone that a recipe names, or the default one."""
    return value.get("backbone", DEFAULT_BACKBONE) if isinstance(value, dict) else getattr(value, "backbone", None)


if TYPE_CHECKING:
    AnyModel = Any
else:
    AnyModel = Annotated[
        Union[tuple(Annotated[model, Tag(name)] for name, model in MODELS.items())],  # noqa: UP007
        Discriminator(name_of_backbone),
    ]
DEFAULT_MODEL: Any = MODELS[DEFAULT_BACKBONE]()
