"""Which cells a restarted worker retries."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray import cloudpickle

from tadp_ray.config.cell import Cell
from tadp_ray.sweep import engine
from tadp_ray.sweep.plan import Plan
from tadp_ray.sweep.worker import skip_reason


def test_records_are_known_by_their_command_and_not_by_clocks(make_cell: Callable[..., Cell], journals) -> None:
    """A node's clock may be hours ahead or behind: it decides nothing."""
    cell = make_cell()
    for _ in range(9):
        journals.write(cell, type="started", time=2e9, command="earlier")
    journals.write(cell, type="failed", error="the loss is nan", time=3e9)
    assert skip_reason(cell, "mine", alone=False) is None
    most = cell.recipe.compute.max_failures
    for start in range(most + 1):
        assert skip_reason(cell, "mine", alone=False) is None, start
        journals.write(cell, type="started", time=1.0, command="mine")
    assert skip_reason(cell, "mine", alone=False) == f"its worker died {most + 1} times"
    assert skip_reason(cell, "mine", alone=True) is None


def test_a_bug_is_tried_again_and_what_the_user_must_mend_is_not(make_cell: Callable[..., Cell], journals) -> None:
    cell = make_cell()
    most = cell.recipe.compute.max_failures
    for start in range(most + 1):
        assert skip_reason(cell, "mine", alone=False) is None, start
        journals.write(cell, type="started", command="mine")
        journals.write(cell, type="failed", error="TypeError: None", traceback="traceback.txt")
    assert skip_reason(cell, "mine", alone=False) == "TypeError: None"
    journals.write(cell, type="started", command="next")
    journals.write(cell, type="failed", error="the loss is nan")
    assert skip_reason(cell, "next", alone=True) == skip_reason(cell, "next", alone=False) == "the loss is nan"


def test_processes_that_train_load_no_mlflow() -> None:
    """Each of them would pay for it with seconds and memory, and only the command talks to MLflow."""
    code = (
        "import sys, tadp_ray.sweep.cluster, tadp_ray.sweep.worker; print({'mlflow', 'sqlalchemy'} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=900)
    assert (said.returncode, said.stdout) == (0, "set()\n"), said.stderr


def test_cells_are_handed_to_ray_as_they_are_and_arrive_as_they_were(
    make_cell: Callable[..., Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written as text and read and checked again."""
    cells = [make_cell(seed=seed) for seed in range(3)]
    plan = Plan("prec_recall", "", "pocket", "", tuple(cells), tuple(cells))
    kept: dict[str, Any] = {}
    monkeypatch.setattr(engine.tune, "Tuner", lambda _, **settings: kept.update(settings))
    engine.tuner(plan, cells, at_once=2)
    assert [batch[0] for batch in kept["param_space"]["cells"]["grid_search"]] == cells
    assert all(batch[0] is cell for batch, cell in zip(kept["param_space"]["cells"]["grid_search"], cells, strict=True))
    for cell in cells:
        there = cloudpickle.loads(cloudpickle.dumps(cell))
        assert there == cell and there.fingerprint == cell.fingerprint and there.folder == cell.folder
