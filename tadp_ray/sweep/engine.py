"""Runs the cells of a plan on Ray: reuses what is finished, continues what was interrupted, trains the rest."""

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass

from ray import tune
from rich.console import Console

from tadp_ray.config.cell import Cell
from tadp_ray.sweep import worker
from tadp_ray.sweep.cluster import cluster
from tadp_ray.sweep.plan import Plan
from tadp_ray.sweep.progress import Progress
from tadp_ray.tracking.query import CellRow, finished
from tadp_ray.tracking.sender import Sender, replay
from tadp_ray.tracking.store import Store
from tadp_ray.training.reporter import acquire_lock, final_metrics


@dataclass(frozen=True)
class Outcome:
    """What a sweep command did."""

    rows: dict[str, CellRow]
    """Finished cells by fingerprint, as MLflow holds them."""
    failed: dict[str, str]
    """What each failed cell said, by fingerprint."""
    unsent: int
    """Journal records that MLflow does not hold yet."""


def run_plan(plan: Plan, store: Store, parent: str, address: str | None, console: Console) -> Outcome:
    """Fill the table of a plan: train every asked cell that MLflow does not hold as finished.

    Raises:
        ValueError: another sweep is at work on the same storage, the input does not fit, or no cell fits on the cluster.
        KeyboardInterrupt: stopped by the user; the same command continues.
    """
    plan.storage.mkdir(parents=True, exist_ok=True)
    lock = acquire_lock(plan.storage / "sweep.lock")
    try:
        # What was trained while MLflow was away, or before it was emptied, is told first and never trained again.
        replay(store, parent, [cell for cell in plan.cells if final_metrics(cell.folder)])
        rows = finished(store, [cell.fingerprint for cell in plan.cells])
        todo = [cell for cell in plan.asked if cell.fingerprint not in rows]
        console.print(f"{len(plan.cells)} cells, {len(rows)} finished before, {len(todo)} to train")
        if not todo:
            return Outcome(rows, {}, 0)
        plan.check(todo)
        unsent = train(plan, todo, store, parent, address, console)
        rows = finished(store, [cell.fingerprint for cell in plan.cells])
        failed = {c.fingerprint: failure(c) for c in todo if c.fingerprint not in rows and not final_metrics(c.folder)}
        return Outcome(rows, failed, unsent)
    finally:
        os.close(lock)


def train(plan: Plan, todo: Sequence[Cell], store: Store, parent: str, address: str | None, console: Console) -> int:
    """Train cells on Ray while their journals are shipped to MLflow; returns how many records could not be shipped."""
    compute = plan.recipe.compute
    with cluster(address, compute) as at_once:
        console.print(f"training {min(at_once, len(todo))} cells at once, in {plan.storage / 'cells'}")
        sender = Sender(store, parent, todo)
        try:
            with Progress(todo, at_once, console):
                tuner(plan, todo, at_once).fit()
        finally:
            unsent = sender.close(timeout=60)
    shutil.rmtree(plan.storage / "ray", ignore_errors=True)
    return unsent


def tuner(plan: Plan, todo: Sequence[Cell], at_once: int) -> tune.Tuner:
    """Ray Tune over cells: one trial each, restarted after crashes, `at_once` together."""
    # The journals hold every number; Tune's own copies, signal handler and working-folder change would only interfere.
    os.environ |= {
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "RAY_AIR_NEW_OUTPUT": "0",
    }
    compute = plan.recipe.compute
    return tune.Tuner(
        tune.with_resources(worker.trial, worker.resources(todo[0])),
        param_space={"cell": tune.grid_search([cell.model_dump_json() for cell in todo])},
        tune_config=tune.TuneConfig(
            max_concurrent_trials=at_once,
            # A warm process keeps the frozen model and the data; starting one costs as much as many training steps.
            reuse_actors=compute.workers == 0,
            trial_name_creator=lambda trial: trial.trial_id,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name=f"{plan.name}-{time.strftime('%Y%m%d-%H%M%S')}",
            storage_path=str(plan.storage / "ray"),
            failure_config=tune.FailureConfig(max_failures=compute.max_failures),
            verbose=0,
        ),
    )
