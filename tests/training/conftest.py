"""A cell small enough to train in a test."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tadp_ray.config.cell import Cell
from tadp_ray.config.recipe import Recipe
from tadp_ray.layout import MODEL
from tadp_ray.training import pictures, run
from tadp_ray.training.digests import digests_of
from tadp_ray.training.loop import Trainer
from tadp_ray.training.pictures import draw_predictions

TINY: dict[str, Any] = {
    "data": {"kind": "scenes", "train": 10, "val": 5, "size": 32},
    "caption": {"source": "oracle"},
    "model": {"head": {"channels": 16}},
    "schedule": {
        "iterations": 6,
        "batch_size": 4,
        "learning_rate": 1e-3,
        "backbone_lr_mult": 1.0,
        "warmup_iterations": 2,
    },
    "evaluation": {"interval": 3},
}


def make_cell(folder: Path, weights: Path, seed: int = 0, **changes: dict[str, Any]) -> Cell:
    """A tiny cell that keeps its folders in `folder`; groups of the recipe are changed by keyword."""
    values = {group: {**TINY.get(group, {}), **changes.get(group, {})} for group in {*TINY, *changes} - {"task"}}
    values["task"] = changes.get("task", "segmentation")
    values["model"] = {"weights": str(weights), **values["model"]}
    values["compute"] = {**values.get("compute", {}), "storage": str(folder)}
    recipe = Recipe.model_validate(values)
    return Cell(experiment="tiny", seed=seed, axes={}, recipe=recipe, digests=digests_of(recipe))


@pytest.fixture
def tiny_cell(tiny_pocket: Path, tmp_path: Path) -> Iterator[Callable[..., Cell]]:
    """`tiny_cell("b", schedule={"micro_batch": 2})`: a cell that is not trained yet, in this test's own folder b.

    Trained in this process it draws no picture, which takes as long as its steps.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "draw_predictions", lambda *_: None)
        yield lambda storage="runs", seed=0, **changes: make_cell(tmp_path / storage, tiny_pocket, seed, **changes)


@pytest.fixture(scope="module")
def trained(
    tiny_pocket: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., tuple[Cell, dict[str, float]]]:
    """`trained(caption={"recall": 0.5})`: a cell that nothing interrupted and its final metrics, to look at only.

    Each is trained once for all tests of a file.
    """
    known: dict[str, tuple[Cell, dict[str, float]]] = {}

    def train(**changes: Any) -> tuple[Cell, dict[str, float]]:
        key = json.dumps(changes, sort_keys=True)
        if key not in known:
            cell = make_cell(tmp_path_factory.mktemp("trained"), tiny_pocket, **changes)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(pictures, "draw_predictions", draw_predictions)
                known[key] = cell, run.train_cell(cell, torch.device("cpu"))
        return known[key]

    return train


@pytest.fixture
def trained_with_a_stop(
    tiny_cell: Callable[..., Cell], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Cell, dict[str, float]]]:
    """`trained_with_a_stop(model=...)`: a cell of three steps and its metrics, whose weights a stop would not have changed."""

    def train(**changes: Any) -> tuple[Cell, dict[str, float]]:
        changes["schedule"] = {"iterations": 3, "warmup_iterations": 0}
        whole, cut = tiny_cell("whole", **changes), tiny_cell("cut", compute={"checkpoint_every": 1}, **changes)
        assert whole.fingerprint == cut.fingerprint and {"weights", "schedule"} <= whole.digests.keys()
        step_once, cpu = Trainer._train_step, torch.device("cpu")

        def dying(self: Trainer, *args: Any) -> torch.Tensor:
            if args[-1] == 2:
                raise RuntimeError
            return step_once(self, *args)

        metrics = run.train_cell(whole, cpu)
        with monkeypatch.context() as patch, pytest.raises(RuntimeError):
            patch.setattr(Trainer, "_train_step", dying)
            run.train_cell(cut, cpu)
        run.train_cell(cut, cpu)
        left, right = load_file(whole.folder / MODEL), load_file(cut.folder / MODEL)
        assert left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
        return whole, metrics

    return train
