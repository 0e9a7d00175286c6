"""Which cells a trial trains, and which of them a restarted worker retries."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray.train.torch
import torch
from ray import cloudpickle

from tadp_ray.config.cell import Cell
from tadp_ray.config.errors import ConfigError
from tadp_ray.errors import UserError
from tadp_ray.sweep import engine, worker
from tadp_ray.sweep.failing import Crashes
from tadp_ray.sweep.plan import Plan
from tadp_ray.sweep.worker import reason_of, skip_reason, train_worker
from tadp_ray.training import run
from tadp_ray.training.distributed import ProcessGroup


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
    engine.tuner(plan, cells, at_once=2, crashes=Crashes())
    assert [batch[0] for batch in kept["param_space"]["cells"]["grid_search"]] == cells
    assert all(batch[0] is cell for batch, cell in zip(kept["param_space"]["cells"]["grid_search"], cells, strict=True))
    for cell in cells:
        there = cloudpickle.loads(cloudpickle.dumps(cell))
        assert there == cell and there.fingerprint == cell.fingerprint and there.folder == cell.folder


@pytest.mark.parametrize(
    ("workers", "at_once", "expected"),
    [
        (0, 2, [[300], [100], [500], [1200], [800]]),
        (1, 1, [[1200, 800, 500, 300, 100]]),
        (1, 2, [[1200, 300], [800, 500, 100]]),
        (1, 9, [[1200], [800], [500], [300], [100]]),
        (2, 2, [[300], [100], [500], [1200], [800]]),
    ],
)
def test_one_ray_train_worker_trains_batches_that_take_about_equally_long(
    make_cell: Callable[..., Cell], workers: int, at_once: int, expected: list[list[int]]
) -> None:
    """The five cells are told apart by how many images they use; several workers, and none, train a cell at a time."""
    todo = []
    for iterations, batch_size in ((100, 3), (50, 2), (500, 1), (300, 4), (100, 8)):
        made = make_cell()
        schedule = made.recipe.schedule.model_copy(update={"iterations": iterations, "batch_size": batch_size})
        compute = made.recipe.compute.model_copy(update={"num_train_workers": workers})
        recipe = made.recipe.model_copy(update={"schedule": schedule, "compute": compute})
        todo.append(made.model_copy(update={"recipe": recipe}))
    assert [[worker.images(cell) for cell in batch] for batch in worker.batches(todo, at_once)] == expected


@pytest.mark.parametrize(("restarts", "cells", "expected"), [(1, 3, 5), (0, 3, 2), (2, 1, 2), (0, 1, 0)])
def test_a_batch_is_restarted_until_each_of_its_cells_has_failed_too_often(
    restarts: int, cells: int, expected: int
) -> None:
    assert worker.batch_restarts(restarts, cells) == expected


@pytest.mark.parametrize("size", [1, 2])
def test_an_error_of_one_of_several_workers_ends_them_all(
    make_cell: Callable[..., Cell], monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """The others would wait for it in the middle of a step. A worker that is alone goes on with its next cell."""
    cells = [make_cell(seed=seed) for seed in range(2 if size == 1 else 1)]

    def fail(cell: Cell, *_: object, **__: object) -> None:
        raise UserError(f"no disk for seed {cell.seed}")

    monkeypatch.setattr(ray.train, "get_context", lambda: SimpleNamespace(get_local_rank=lambda: 0))
    monkeypatch.setattr(ray.train.torch, "get_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(ProcessGroup, "current", classmethod(lambda kind: kind(size - 1, size)))
    monkeypatch.setattr(ProcessGroup, "barrier", lambda self: None)
    monkeypatch.setattr(worker, "heartbeat", lambda cell: nullcontext())
    monkeypatch.setattr(run, "train_cell", fail)
    if size == 1:
        errors = {cell.fingerprint: f"no disk for seed {cell.seed}" for cell in cells}
        assert train_worker({"cells": cells, "command": "mine"}) == {"errors": errors}
    else:
        with pytest.raises(UserError, match="no disk for seed 0"):
            train_worker({"cells": cells, "command": "mine"})


def test_of_several_workers_the_one_is_quoted_that_the_user_can_help() -> None:
    lost, mine = RuntimeError("Connection closed by peer"), ConfigError(["no.yaml: no disk", "no.yaml: no memory"])
    both = ray.train.WorkerGroupError("[Rank 0]\nRuntimeError: lost\n[Rank 1]\nConfigError: no", {0: lost, 1: mine})
    assert reason_of(both) == (str(mine), None)
    alone = ray.train.WorkerGroupError("[Rank 0]\nRuntimeError: lost", {0: lost})
    assert reason_of(alone) == ("RuntimeError: lost", str(alone))
