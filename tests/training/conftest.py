"""A cell small enough to train in a test, on the shipped weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tadp_ray.config.cell import Cell
from tadp_ray.config.schema import Recipe
from tadp_ray.training.digests import digests_of

TINY: dict[str, Any] = {
    "data": {"kind": "scenes", "train": 10, "val": 5, "size": 32},
    "caption": {"source": "oracle"},
    "model": {"weights": "pocket", "head": {"channels": 16}},
    "schedule": {"iterations": 6, "batch_size": 4, "learning_rate": 1e-3, "unet_scale": 1.0, "warmup_iterations": 2},
    "evaluation": {"every": 3},
}


@pytest.fixture
def tiny_cell(tmp_path: Path) -> Callable[..., Cell]:
    """`tiny_cell(schedule={"micro_batch": 2}, storage="b")`: groups of the recipe are changed by keyword."""

    def make(storage: str = "runs", seed: int = 0, **changes: dict[str, Any]) -> Cell:
        values = {group: {**TINY.get(group, {}), **changes.get(group, {})} for group in {*TINY, *changes} - {"task"}}
        values["task"] = changes.get("task", "segmentation")
        values["compute"] = {**values.get("compute", {}), "storage": str(tmp_path / storage)}
        recipe = Recipe.model_validate(values)
        return Cell(
            experiment="tiny",
            seed=seed,
            axes={},
            recipe=recipe,
            digests=digests_of(recipe),
        )

    return make
