"""Keys of the model: a backbone with keys of its own, and the head of the task."""

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import Discriminator, Field, Tag, ValidationError, create_model

from tadp_ray.config.context import DEFAULT_CONTEXT, ContextConfig
from tadp_ray.config.vocabulary import StrictModel, told_by
from tadp_ray.registry import BACKBONES, HEADS

DEFAULT_BACKBONE = "stable_diffusion"
DEFAULT_HEAD = "semantic_fpn"


backbone_name = told_by("backbone", DEFAULT_BACKBONE)
"""Returns the backbone of a recipe's `model`."""

if TYPE_CHECKING:
    HeadConfig = Any
else:
    KINDS = tuple(Annotated[head.config, Tag(kind)] for kind, head in HEADS.items())
    HeadConfig = Annotated[Union[KINDS], Discriminator(told_by("kind", DEFAULT_HEAD))]  # noqa: UP007


class ModelConfig(StrictModel):
    """The keys of every model; each backbone adds its own."""

    backbone: str
    pixel_normalization: Literal["half", "imagenet"] = Field(
        "half",
        description="half: to [-1, 1]; imagenet: with the mean and standard deviation of ImageNet (code: imagenet for detection "
        "and for cross-domain segmentation)",
    )
    context: ContextConfig = DEFAULT_CONTEXT
    adapter: bool = Field(
        False,
        description="train a text adapter (TA), which replaces the context c of the caption by c + gamma * MLP(c)",
    )
    feature_norm: bool = Field(
        False,
        description="batch-normalise the features before the head, since the channels of a U-Net differ in scale (code: false)",
    )
    head: HeadConfig = HEADS[DEFAULT_HEAD].config()

    @property
    def encoding_of_images(self) -> dict[str, Any]:
        """The settings, besides the weights, that determine the latent of an image; by default all that a backbone adds."""
        return self._added

    @property
    def encoding_of_texts(self) -> dict[str, Any]:
        """The settings, besides the weights, that determine the context of a text; by default all that a backbone adds."""
        return self._added

    @property
    def _added(self) -> dict[str, Any]:
        return self.model_dump(mode="json", include={*type(self).model_fields} - {*ModelConfig.model_fields})

    @property
    def why_one_size(self) -> str:
        """The reason why the model takes images of the training size only. Empty: it takes any size."""
        return ""

    @property
    def why_texts_alone(self) -> str:
        """The reason why contexts must be of texts, not of class embeddings or of other sources. Empty: they need not."""
        return ""


def class_name(backbone: str) -> str:
    """Return the class name of a backbone's group of keys, e.g. `StableDiffusionModel` for stable_diffusion."""
    return "".join(part.capitalize() for part in backbone.split("_")) + "Model"


MODELS: dict[str, Any] = {
    name: create_model(class_name(name), __base__=(entry.config, ModelConfig), __doc__=entry.config.__doc__)
    for name, entry in BACKBONES.items()
}
"""The class of each backbone's `model` group, by the backbone's name."""


def __getattr__(name: str) -> Any:
    """Return a class of `MODELS` by its class name, since pickle looks it up as an attribute."""
    by_class_name = {model.__name__: model for model in MODELS.values()}
    if name not in by_class_name:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return by_class_name[name]


def long_form(model: Mapping[str, Any], key: str) -> dict[str, Any] | None:
    """Return the group that the short form at a key of a recipe's `model` stands for; None if it is no short form.

    It has what the form states, and no defaults: `{draw: mode, scale: raw}` of `latent: vpd`.
    """
    return long_form_of(str(backbone_name(model)), key, model[key])


@cache
def long_form_of(backbone: str, key: str, text: str) -> dict[str, Any] | None:
    """Return what `long_form` does, for the models of a backbone."""
    field = MODELS[backbone].model_fields.get(key) if backbone in MODELS else None
    if field is None:
        return None
    try:
        whole = create_model(key, value=(field.annotation, field)).model_validate({"value": text})
    except ValidationError:
        return None
    group = whole.model_dump(mode="json", exclude_unset=True)["value"]
    return group if isinstance(group, dict) else None


if TYPE_CHECKING:
    AnyModel = Any
else:
    AnyModel = Annotated[
        Union[tuple(Annotated[model, Tag(name)] for name, model in MODELS.items())],  # noqa: UP007
        Discriminator(backbone_name),
    ]
DEFAULT_MODEL: Any = MODELS[DEFAULT_BACKBONE]()
