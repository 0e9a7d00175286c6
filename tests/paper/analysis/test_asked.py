"""Which trained models the shipped analyses ask for: at every scale their texts fit the scale's recipe, and say what they are."""

import json
from pathlib import Path

import pytest

from tadp_ray.config.load import load_analysis, load_recipe
from tadp_ray.paper.analysis.run import asked

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
