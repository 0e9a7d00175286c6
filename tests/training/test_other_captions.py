"""A trained model is scored with other captions: the numbers of a recipe that has them, from one training."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tadp_ray.backbones.stable_diffusion.learned_tokens import LearnedToken, write_learned
from tadp_ray.captions.store import CaptionStore
from tadp_ray.config.cell import Cell
from tadp_ray.errors import UserError
from tadp_ray.layout import MODEL
from tadp_ray.training import latents
from tadp_ray.training.check import check_setup
from tadp_ray.training.checkpoint import read_tensors
from tadp_ray.training.digests import digests_of
from tadp_ray.training.distributed import ProcessGroup
from tadp_ray.training.evaluate import evaluate
from tadp_ray.training.run import build_model, train_cell
from tadp_ray.training.setup import TrainSetup

CPU, ALONE = torch.device("cpu"), ProcessGroup()
QUICK = {
    "schedule": {"iterations": 6, "batch_size": 4, "learning_rate": 1e-2, "backbone_lr_mult": 1.0},
    "model": {"feature_norm": True, "attention_maps": "none", "head": {"channels": 16}},
}
"""Trains so fast that a handful of steps answer texts."""
OTHERS = {
    "none": {"source": "null"},
    "averaged EOS": {"source": "class_names", "encoding": "class_embeddings", "templates": "single"},
    "half": {"source": "template", "wording": "long", "recall": 0.5},
}


def scored(others: dict[str, Any]) -> dict[str, Any]:
    """The evaluation of a tiny cell with other captions."""
    return {"evaluation": {"interval": 6, "captions": others}}


@pytest.mark.slow
def test_other_captions_give_the_numbers_of_a_recipe_with_them(
    tiny_cell: Callable[..., Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded, view_latents = [], latents.view_latents
    noted = lambda *inputs: encoded.append(list(inputs[-1])) or view_latents(*inputs)
    monkeypatch.setattr(latents, "view_latents", noted)
    cell = tiny_cell(**QUICK, **scored(OTHERS))
    found = train_cell(cell, CPU)
    assert encoded == [[0, 1, 2, 3, 4]]
    alone = train_cell(tiny_cell("alone", **QUICK, **scored({})), CPU)
    same = [name for name in alone if not name.endswith(("seconds", "_per_step", "_mib", "_gib"))]
    assert "miou" in same and [found[name] for name in same] == [alone[name] for name in same]
    for name, caption in OTHERS.items():
        recipe = tiny_cell(**QUICK, caption=caption).recipe
        setup = TrainSetup(recipe, cell.seed)
        model = build_model(setup, CPU)
        model.load_state_dict(read_tensors(cell.folder / MODEL)[0])
        views = latents.evaluation_latents(digests_of(recipe), setup, model, CPU, ALONE)
        assert found[f"miou/{name}"] == evaluate(model, setup, views, CPU, ALONE).compute()["miou"] != found["miou"]
        assert found[f"caption/val_recall/{name}"] == setup.val_prompts.score.recall
        assert found.get(f"caption/val_precision/{name}") == setup.val_prompts.score.precision
    assert len({found[f"miou/{name}"] for name in OTHERS}) == len(OTHERS)
    assert (found["caption/val_recall"], found["caption/val_truncated/none"]) == (1.0, 0)
    assert found["caption/val_recall/half"] < 0.7


def test_their_stores_need_evaluation_images_alone(tiny_cell: Callable[..., Cell], tmp_path: Path) -> None:
    file = tmp_path / "said.jsonl"
    others = {"said": {"source": "store", "store": str(file)}}
    CaptionStore({f"val-0-{k:06}": (f"a car and {k} cows",) for k in range(5)}).write(file)
    cell = tiny_cell(**scored(others))
    check_setup(TrainSetup(cell.recipe, 0))
    first = cell.digests["captions/said"]
    moved = tmp_path / "moved.jsonl"
    moved.write_bytes(file.read_bytes())
    assert tiny_cell(**scored({"said": {"source": "store", "store": str(moved)}})).fingerprint == cell.fingerprint
    CaptionStore({f"val-0-{k:06}": ("a car",) for k in range(4)}).write(file)
    other = tiny_cell(**scored(others))
    assert other.digests["captions/said"] != first and other.fingerprint != cell.fingerprint
    with pytest.raises(UserError, match=r"^captions/said changed since this cell was planned \(.*said.jsonl\)"):
        train_cell(cell, CPU)
    with pytest.raises(
        UserError, match=r"^evaluation.captions.said: .*said.jsonl: no caption for 1 image: 'val-0-000004'"
    ):
        check_setup(TrainSetup(other.recipe, 0))


def test_contexts_of_another_length_are_refused_where_features_have_maps_of_them(
    tiny_cell: Callable[..., Cell],
) -> None:
    eos = {"EOS": OTHERS["averaged EOS"]}
    with pytest.raises(
        UserError,
        match=r"evaluation.captions.EOS.encoding=class_embeddings: its contexts have 55 tokens, those of the training \d+, .* "
        r"model.attention_maps: none",
    ):
        check_setup(TrainSetup(tiny_cell(**scored(eos)).recipe, 0))
    check_setup(TrainSetup(tiny_cell(**scored(eos), model={"attention_maps": "none"}).recipe, 0))


def test_all_checks_of_prompts_hold(tiny_cell: Callable[..., Cell], tmp_path: Path) -> None:
    names = {"source": "oracle", "encoding": "class_embeddings"}
    with pytest.raises(
        UserError, match=r"^evaluation.captions.bad: caption.encoding=class_embeddings: images have \d to \d"
    ):
        check_setup(TrainSetup(tiny_cell(**scored({"bad": names})).recipe, 0))
    token = tmp_path / "learned_embeds.safetensors"
    write_learned(token, LearnedToken("<night>", torch.full((64,), 0.5)))
    night = {"night": {"source": "oracle", "modifiers": ["a <night> photo of {caption}"]}}
    check_setup(TrainSetup(tiny_cell(**scored(night), model={"embeddings": token}).recipe, 0))
    with pytest.raises(UserError, match="its token is '<night>', which no prompt says"):
        check_setup(TrainSetup(tiny_cell(**scored({"none": OTHERS["none"]}), model={"embeddings": token}).recipe, 0))
    boxes = {"task": "detection", "model": {"head": {"kind": "faster_rcnn"}}}
    with pytest.raises(UserError, match="evaluation.captions.car: ap50/car is the metric of the class 'car'; rename"):
        check_setup(TrainSetup(tiny_cell(**boxes, **scored({"car": {"source": "null"}})).recipe, 0))


def test_each_is_a_setup_of_the_same_images(tiny_cell: Callable[..., Cell]) -> None:
    setup = TrainSetup(tiny_cell(**scored(OTHERS)).recipe, 3)
    half = setup.other_captions["half"]
    assert (half.seed, half.cache, half.other_captions) == (3, setup.cache, {})
    assert half.val is setup.val and half.val_prompts != setup.val_prompts
    assert half == replace(setup, recipe=half.recipe)
