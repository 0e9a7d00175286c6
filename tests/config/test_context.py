"""Short forms and published names of contexts, and what is refused."""

import pytest

from tadp_ray.config.context import ContextConfig
from tadp_ray.config.errors import ConfigError
from tadp_ray.config.load import validate
from tadp_ray.config.recipe import Recipe

RECIPE = {"caption": {"source": "null"}, "schedule": {"iterations": 1, "learning_rate": 1e-3}}


def context(value: object, **groups: object) -> ContextConfig:
    return validate(Recipe, {**RECIPE, **groups, "model": {"context": value}}, lambda _: "mine.yaml").model.context


def test_a_name_is_a_source_with_its_defaults_or_a_published_context() -> None:
    assert context("text") == Recipe.model_validate(RECIPE).model.context
    learned, image = context("learned").sources[0], context("image").sources[0]
    assert (learned.kind, learned.count, learned.lr_mult) == ("learned", 77, 1.0)
    assert (image.encoder, image.map, image.vectors) == ("pocket", "projection", 4)
    assert context({"sources": ["text", "learned"]}).kinds == ("text", "learned")


def test_published_contexts_have_the_values_of_their_code() -> None:
    """fudan-zvg/meta-prompts, segmentation/configs/ade_upper.py; Aradhye2002/EcoDepth, model.py; NVlabs/ODISE, ldm.py."""
    (learned,) = context("metaprompts").sources
    assert (learned.count, learned.lr_mult) == (150, 1.0)
    (cide,) = context("cide").sources
    assert (cide.encoder, cide.output, cide.map) == ("google/vit-base-patch16-224", "logits", "cide")
    assert (cide.mixture, cide.lr_mult, cide.vectors) == (100, 10.0, 1)
    odise = context("odise")
    assert odise.kinds == ("text", "image") and odise.join == "sum"
    assert (odise.sources[1].map, odise.sources[1].vectors) == ("captioner", 77)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (
            "lerned",
            "model.context='lerned': expected text, learned, image, metaprompts, cide, odise, or a group of sour",
        ),
        ({"sources": []}, "model.context: sources: there is none; name text, learned, image or several"),
        ({"sources": ["text", "text"]}, "model.context: sources: text is named 2 times; name each kind once"),
        ({"sources": ["text"], "join": "sum"}, "model.context: join: sum needs at least two sources; leave it out"),
        ({"sources": ["lerned"]}, "model.context.sources[0]: unknown kind 'lerned'; expected one of 'text', 'learned'"),
        (
            {"sources": [{"kind": "learned", "cont": 4}]},
            "model.context.sources[0].cont=4: unknown key; did you mean 'count'?",
        ),
        (
            {"sources": [{"kind": "learned", "count": 2000}]},
            "model.context.sources[0].count=2000: Input should be less",
        ),
        (
            {"sources": [{"kind": "image", "map": "cide", "count": 2}]},
            "map: cide makes one vector, not 2; leave count out",
        ),
        ({"sources": [{"kind": "image", "mixture": 9}]}, "mixture and lr_mult belong to map: cide, not projection"),
    ],
)
def test_refusals(value: object, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        context(value)
    assert str(error.value).startswith("mine.yaml: ") and said in str(error.value)


def test_photographs_need_an_image_encoder_that_is_stated() -> None:
    photographs = {"data": {"kind": "nyuv2", "root": "x"}, "augment": {"crop": 32}}
    recipe = {**RECIPE, **photographs, "model": {"weights": "pocket", "context": "image"}}
    with pytest.raises(
        ConfigError, match="data.kind: nyuv2 needs the encoder of model.context's source image to be st"
    ):
        validate(Recipe, recipe, lambda _: "mine.yaml")
    recipe["model"] = {"weights": "pocket", "context": {"sources": [{"kind": "image", "encoder": "pocket"}]}}
    validate(Recipe, recipe, lambda _: "mine.yaml")
