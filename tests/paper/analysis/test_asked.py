"""Which trained models the shipped analyses ask for: at every scale their texts fit the scale's recipe, and say what they are."""

import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tadp_ray.config.data import CaptionConfig
from tadp_ray.config.load import load_analysis, load_recipe
from tadp_ray.errors import UserError
from tadp_ray.paper.analysis import run
from tadp_ray.paper.analysis.eos_tokens import check_texts
from tadp_ray.paper.analysis.run import analyse, asked, check_backbone

ANALYSES = Path(__file__).resolve().parents[3] / "experiments/analyses"
SOURCES = {
    "off_target": {"right names": "oracle"},
    "eos_tokens": {"averaged": "class_names", "single": "class_names", "words": "class_names", "right names": "oracle"},
    "copy_paste": {},
    "image_variation": {"judge": "null"},
}


@pytest.mark.parametrize("scale", ["pocket", "paper"])
@pytest.mark.parametrize("name", SOURCES)
def test_texts_of_an_analysis_replace_the_recipes(name: str, scale: str) -> None:
    analysis = load_analysis(ANALYSES / f"{name}.yaml", scale)
    place = ANALYSES / analysis.recipes[scale]
    found = {}
    for text, keys in asked(analysis, load_recipe(place)).items():
        recipe = load_recipe(place, [f"{key}={json.dumps(value)}" for key, value in keys.items()])
        assert recipe.caption.store is None
        found[text] = recipe.caption.source
    # Scenes know of themselves what is in them, so that no model judges them.
    assert found == ({} if (name, scale) == ("image_variation", "pocket") else SOURCES[name])


@pytest.mark.parametrize(
    ("caption", "right"), [("recall: 1.0", True), ("precision: 0.5", False), ("recall: 0.5", False)]
)
def test_names_that_were_made_wrong_are_not_the_right_ones(caption: str, right: bool, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"extends: pocket_segmentation\ncaption: {{source: oracle, {caption}}}\n")
    keys = asked(load_analysis(ANALYSES / "off_target.yaml", "pocket"), load_recipe(file))["right names"]
    assert keys == ({} if right else {"caption": {"source": "oracle"}})


@pytest.mark.parametrize(
    ("caption", "said"),
    [
        (
            {"source": "sentence", "sentence": "a photo of nothing"},
            "its maps are of the names in an image, or of all; use",
        ),
        ({"source": "oracle", "recall": 0.5}, "its maps are of the names in an image, or of all; use"),
        ({"source": "class_names", "modifiers": ["a photo of {caption}"]}, "its maps are of the names in an image"),
        ({"source": "oracle", "shuffle": True}, "its maps are of the names in an image"),
        ({"source": "oracle"}, None),
        ({"source": "class_names", "encoding": "names"}, None),
    ],
)
def test_maps_are_of_texts_that_are_names_alone(caption: dict[str, object], said: str | None) -> None:
    captions = {"words": CaptionConfig(**caption)}
    with pytest.raises(UserError, match=rf"spec\.texts\.words: {said}") if said else nullcontext():
        check_texts(captions)


def test_an_analysis_looks_at_the_networks_of_the_recipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    analysis, seen = load_analysis(ANALYSES / "copy_paste.yaml", "pocket"), []
    monkeypatch.setattr(run, "copy_paste", lambda _, __, ___, diffusion, folder: seen.append(diffusion))
    recipe = load_recipe(ANALYSES / analysis.recipes["pocket"])
    for changed in (
        recipe,
        recipe.model_copy(update={"model": recipe.model.model_copy(update={"unet_init": "random"})}),
    ):
        analyse(analysis, changed, {}, tmp_path)
    first, second = (diffusion.unet.conv_in.weight for diffusion in seen)
    assert not torch.equal(first, second)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_told(tmp_path: Path) -> None:
    analysis = load_analysis(ANALYSES / "copy_paste.yaml", "paper")
    with pytest.raises(
        UserError, match=r"^compute\.gpus: 1, but torch .* sees no GPU here; .* or set compute\.gpus: 0$"
    ):
        analyse(analysis, load_recipe(ANALYSES / analysis.recipes["paper"]), {}, tmp_path)


def test_a_backbone_that_an_analysis_cannot_look_at_is_refused() -> None:
    pixart = SimpleNamespace(model=SimpleNamespace(backbone="pixart"))
    with pytest.raises(
        UserError, match=r"^model\.backbone=pixart: variation needs a model of stable_diffusion; set model\."
    ):
        check_backbone(load_analysis(ANALYSES / "image_variation.yaml", "pocket"), pixart)
    check_backbone(load_analysis(ANALYSES / "copy_paste.yaml", "pocket"), pixart)
