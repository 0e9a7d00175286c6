"""Figure S1 takes pictures by path or id and captions from a text or a store, refuses what is not there, and knows its scale."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tadp_ray.captions.store import CaptionStore
from tadp_ray.config.analysis import Variation
from tadp_ray.config.errors import ConfigError
from tadp_ray.config.load import load_analysis, load_recipe
from tadp_ray.config.recipe import Recipe
from tadp_ray.errors import UserError
from tadp_ray.paper.analysis.varied import check_pictures, pictures_to_vary

ROOT = Path(__file__).resolve().parents[3]
RECIPE = ROOT / "experiments/recipes/pocket_segmentation.yaml"
SIZES = SimpleNamespace(side=64, multiple=32)
"""Of the model that looks."""


@pytest.fixture
def photographs(tmp_path: Path) -> Recipe:
    """A recipe of three grey photographs, of sky, of a cat, and of a cat under the sky."""
    for name, mask in {"sky": [[0, 0]], "cat": [[1, 1]], "both": [[0, 1]]}.items():
        for folder, values in (
            ("images", np.full((32, 32, 3), 99)),
            ("masks", np.repeat(np.repeat(mask, 32, 0), 16, 1)),
        ):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(values.astype(np.uint8)).save(tmp_path / folder / f"{name}.png")
    split = "{images: images/*.png, masks: masks/*.png}"
    (tmp_path / "recipe.yaml").write_text(
        f"extends: {RECIPE}\naugment: {{crop: 32}}\n"
        f"data: {{kind: folder, root: {tmp_path}, train: {split}, val: {split}, classes: [sky, cat, dog]}}\n"
    )
    return load_recipe(tmp_path / "recipe.yaml")


def spec(**keys: object) -> Variation:
    """Settings of variations, as its file's JSON is read."""
    return Variation.model_validate_json(json.dumps({"kind": "variation", **keys}), strict=True)


def told(config: Variation, recipe: Recipe) -> list[tuple[list[str], str]]:
    """What each picture shows and is told."""
    check_pictures(config, recipe, 0)
    return [(sorted(own.shows), own.caption) for own in pictures_to_vary(config, recipe, 0, SIZES)]


def test_the_background_of_photographs_is_no_object(photographs: Recipe) -> None:
    data = photographs.data.model_copy(update={"classes": ("background", "cat", "dog")})
    photographs = photographs.model_copy(update={"data": data})
    assert told(spec(ids=["both"]), photographs) == [(["cat"], "a photo of cat")]


def test_pictures_are_the_first_or_those_of_these_ids(photographs: Recipe) -> None:
    assert told(spec(images=2), photographs) == [
        (["cat", "sky"], "a photo of sky and cat"),
        (["cat"], "a photo of cat"),
    ]
    assert told(spec(ids=["sky", "both"]), photographs) == [
        (["sky"], "a photo of sky"),
        (["cat", "sky"], "a photo of sky and cat"),
    ]
    assert [own for own, _ in told(spec(ids=["pretrain-2000000-000002"]), load_recipe(RECIPE))] == [
        told(spec(), load_recipe(RECIPE))[2][0]
    ]


def test_a_picture_of_ones_own_and_its_caption(photographs: Recipe, tmp_path: Path) -> None:
    Image.new("RGB", (300, 200), "teal").save(tmp_path / "mine.png")
    mine = [{"path": str(tmp_path / "mine.png"), "shows": ["cat", "dog"]}]
    assert told(spec(pictures=mine), photographs) == [(["cat", "dog"], "a photo of cat and dog")]
    assert told(spec(pictures=mine, caption="a cat and a dog"), photographs)[0][1] == "a cat and a dog"
    (image,) = [own.image for own in pictures_to_vary(spec(pictures=mine), photographs, 0, SIZES)]
    assert image.shape == (64, 96, 3) and (image[0, 0] == (0, 128, 128)).all()
    (tmp_path / "store.json").write_text(json.dumps({"mine": {"captions": ["pets", "two pets"]}}))
    assert told(spec(pictures=mine, caption_store=str(tmp_path / "store.json")), photographs)[0][1] == "pets"


def test_captions_come_from_a_store_by_id(photographs: Recipe, tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text(json.dumps({"sky": {"captions": ["blue"]}, "cat": {"captions": ["a tabby"]}}))
    config = spec(ids=["cat", "sky"], caption_store=str(tmp_path / "store.json"))
    assert [said for _, said in told(config, photographs)] == ["a tabby", "blue"]


def test_a_caption_that_says_nothing_stays_empty(photographs: Recipe, tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text(json.dumps({"sky": {"captions": [""]}, "cat": {"captions": ["a tabby"]}}))
    config = spec(ids=["cat", "sky"], caption_store=str(tmp_path / "store.json"))
    assert [said for _, said in told(config, photographs)] == ["a tabby", ""]


def test_what_is_not_there_is_refused_before_any_compute(photographs: Recipe, tmp_path: Path) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / "mine.png")
    (tmp_path / "store.json").write_text(json.dumps({"cat": {"captions": ["a tabby"]}}))
    CaptionStore({"cat": ("a tabby",)}, {}, tags={"cat": ("short",)}).write(tmp_path / "tags.jsonl")
    for keys, said in (
        (
            {"ids": ["cat"], "caption_store": str(tmp_path / "tags.jsonl")},
            "id 'cat': its captions have tags, and none is",
        ),
        ({"ids": ["caat"]}, "spec.ids: 'caat' is none of the 3 validation images; did you mean 'cat'"),
        ({"pictures": [{"path": "no.jpg", "shows": ["cat"]}]}, "spec.pictures: no.jpg: there is no such file"),
        ({"pictures": [{"path": str(tmp_path / "mine.png"), "shows": ["lion"]}]}, "'lion' is no class of these data"),
        ({"images": 3, "caption_store": str(tmp_path / "store.json")}, "no caption for 2 image"),
        ({"caption_store": str(tmp_path / "none.json")}, "no such file; name a file of captions that exists"),
    ):
        with pytest.raises(UserError, match=said):
            check_pictures(spec(**keys), photographs, 0)


def test_an_analysis_holds_values_of_each_scale(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    begin = f"question: Why?\nfigure: S1\nrecipes: {{pocket: {RECIPE}, paper: {RECIPE}}}\n"
    shared = "spec: {kind: variation, images: 4, guidance_scale: 3}\n"
    file.write_text(begin + shared + "scales: {paper: {guidance_scale: 7.5, caption: a bird and a dog}}\n")
    assert load_analysis(file).spec == spec(images=4, guidance_scale=3)
    assert load_analysis(file, "paper").spec == spec(images=4, guidance_scale=7.5, caption="a bird and a dog")
    for changes, said in (
        ("{paper: {guidanc: 7}}", "scales.paper: spec.guidanc=7: unknown key; did you mean 'guidance_scale'?"),
        ("{paper: {caption: a, caption_store: b}}", "caption and caption_store are two answers to one question"),
        ("{laptop: {guidance_scale: 7}}", "scales.laptop"),
    ):
        file.write_text(begin + shared + f"scales: {changes}\n")
        with pytest.raises(ConfigError) as refused:
            load_analysis(file)
        assert said in str(refused.value)
    file.write_text(
        f"question: Why?\nfigure: S1\nrecipes: {{pocket: {RECIPE}}}\n{shared}scales: {{paper: {{of: 9}}}}\n"
    )
    with pytest.raises(ConfigError, match="scales.paper: recipes has none of this scale"):
        load_analysis(file)


def test_the_shipped_figure_is_drawn_with_each_models_own_guidance() -> None:
    """The pocket gate's 3, and diffusers' default for Stable Diffusion, as the paper tells none."""
    file = ROOT / "experiments/analyses/image_variation.yaml"
    both = [load_analysis(file, scale).spec for scale in ("pocket", "paper")]
    assert [(own.guidance_scale, own.num_inference_steps, own.steps) for own in both] == [
        (g, 50, (5, 15, 25, 35, 45)) for g in (3, 7.5)
    ]
