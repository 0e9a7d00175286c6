"""The gate tells a model that knows words from one that does not, and the shipped one passes what its card prints."""

import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from tadp_ray.backbones.latent.weights import locate
from tadp_ray.backbones.stable_diffusion.text_to_image import load_text_to_image
from tadp_ray.data.scenes import GROUNDS, LOOK_ALIKES, THINGS
from tadp_ray.paper.pocket import gate
from tadp_ray.paper.pocket.report import AIMS

ROOT = Path(__file__).resolve().parents[3]
NAMES = ("sky", "sand", "hill", "cat", "dog", "bus")


def test_wrong_captions_are_wrong_in_the_way_they_say() -> None:
    wrong = {kind: change(NAMES) for kind, change in gate.WRONG_CAPTIONS.items()}
    assert wrong["null"] == []
    assert wrong["wrong ground"][1] in set(GROUNDS) - {"sand"} and wrong["wrong ground"][2:] == list(NAMES[2:])
    # Neither the cat nor the dog is taken for the other one, which is in the picture.
    assert {*wrong["look-alike"][3:5]} <= {"rabbit", "squirrel"} and wrong["look-alike"][5] in LOOK_ALIKES["bus"]
    assert all(
        new in THINGS and new not in (old, *LOOK_ALIKES[old])
        for old, new in zip(NAMES[3:], wrong["wrong group"][3:], strict=True)
    )


def test_drawings_ask_for_every_thing_and_for_one_or_two() -> None:
    texts, named = gate.drawing_texts()
    assert len(texts) == 144 and Counter(things[0] for things in named) == dict.fromkeys(THINGS, 3)
    assert {len(things) for things in named} == {1, 2}
    assert all(things[1] not in (things[0], *LOOK_ALIKES[things[0]]) for things in named if things[1:])
    assert all(
        name in text.replace(",", "").split() for text, things in zip(texts, named, strict=True) for name in things
    )


@pytest.fixture(scope="module")
def shipped() -> Path:
    return locate("pocket")


@pytest.mark.slow
def test_the_shipped_model_listens_to_its_caption(shipped: Path) -> None:
    """On fewer scenes the gate shows at least half of what the model's card prints, at every timestep."""
    model, scenes = load_text_to_image(str(shipped)), gate.held_out(64, 48)
    table = gate.caption_rises(model, scenes.latents(model.diffusion.vae), scenes.names)
    row = re.search(r"^\| look-alike \|(.*)\|$", (shipped / "README.md").read_text(), re.MULTILINE)
    printed = [float(value) for value in re.findall(r"\+([\d.]+)%", row[1])]
    assert len(printed) == 3
    for time, value in zip(gate.TIMES, printed, strict=True):
        assert table["look-alike", time] > value / 2


def test_the_shipped_models_attention_lies_on_what_is_named_and_a_forgetful_ones_does_not(shipped: Path) -> None:
    model, scenes = load_text_to_image(str(shipped)), gate.held_out(64, 32)
    latents = scenes.latents(model.diffusion.vae)
    hits = gate.attention_hits(model, latents, scenes.samples)
    assert hits["pointing"] > 3 * hits["chance"]
    torch.manual_seed(0)
    model.diffusion.text_encoder.apply(
        lambda part: part.reset_parameters() if hasattr(part, "reset_parameters") else None
    )
    forgetful = gate.attention_hits(model, latents, scenes.samples)
    assert forgetful["pointing"] < hits["pointing"] / 2


@pytest.mark.slow
def test_a_classifier_judges_pictures_of_known_scenes(shipped: Path) -> None:
    sure = gate.judged(
        gate.load_classifier(shipped), load_text_to_image(str(shipped)).diffusion.vae, gate.held_out(64, 64)
    )
    assert min(sure.values()) > 70


def test_the_whole_folder_weighs_little(shipped: Path) -> None:
    size = sum(path.stat().st_size for path in shipped.rglob("*") if path.is_file())
    assert size < 25e6
    assert np.isfinite(size)


def test_what_is_found_unnamed_is_a_share_of_the_names_that_are_not_in_the_text(
    shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the judge finds the named things and one more in each picture; docs and card say the numbers of names."""
    texts, named = gate.drawing_texts()
    found = gate.presence(named)
    unnamed = (~found).int().argmax(1)
    found[torch.arange(len(named)), unnamed] = True
    diffusion = SimpleNamespace(vae=SimpleNamespace(device=torch.device("cpu")))
    model = SimpleNamespace(draw=lambda *_: np.zeros((len(texts), 2, 2, 3), np.uint8), diffusion=diffusion)
    monkeypatch.setattr(gate, "shown", lambda *_: found)
    drawn = gate.drawn_things(model, nn.Module())
    assert {len(THINGS) - len(things) for things in named} == {46, 47}
    assert drawn == pytest.approx({"found": 100, "found_unnamed": 100 / 46.5})
    aims = {aim.measure: aim.text for aim in AIMS}
    for file in (shipped / "README.md", ROOT / "docs/pocket_world.md"):
        assert f"| {aims['drawing/found_unnamed']} |" in file.read_text()
