"""Runs the cells of a plan on Ray: reuses finished cells, resumes interrupted ones, trains the rest."""

import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler
from rich.console import Console

from tadp_ray.config.cell import Cell
from tadp_ray.config.metrics import lower_is_better, main_metric
from tadp_ray.config.search import Search
from tadp_ray.errors import UserError
from tadp_ray.layout import CELLS, MODEL, RAY
from tadp_ray.phases import phase
from tadp_ray.sweep import worker
from tadp_ray.sweep.address import REMOTE_ERRORS, Remote, remote_path
from tadp_ray.sweep.alive import kill_hung_processes
from tadp_ray.sweep.cluster import cell_need, cell_slots, concurrency, grow, may_grow, ray_session, warn_without_room
from tadp_ray.sweep.failing import Crashes, note_failures, out_of_memory_told, reported_failures
from tadp_ray.sweep.nodes import check_nodes
from tadp_ray.sweep.plan import Plan
from tadp_ray.sweep.progress import SweepProgress
from tadp_ray.sweep.remote import archived, mirror, pull
from tadp_ray.sweep.running import announced
from tadp_ray.sweep.stopped import note_stopped, stopped_by
from tadp_ray.sweep.storage import locked_storage
from tadp_ray.tracking.journal_run import move_weights
from tadp_ray.tracking.moved import in_use
from tadp_ray.tracking.query import finished, other_code
from tadp_ray.tracking.run_spec import cell_run_spec
from tadp_ray.tracking.sender import Sender, replay
from tadp_ray.tracking.sqlite import sqlite_file
from tadp_ray.tracking.store import Store
from tadp_ray.tracking.sweep_run import end_parent, parent, record_plan, show_table
from tadp_ray.tracking.view import keep_views
from tadp_ray.training.journal import check_journal, final_metrics, read_journal
from tadp_ray.training.provenance import code_of, provenance
from tadp_ray.wording import pluralized

log = logging.getLogger(__name__)

Hints = Callable[[str], Sequence[str]]
"""Returns lines on a sweep, of its run in MLflow."""


def run_plan(
    plan: Plan,
    store: Store,
    address: str | None,
    console: Console,
    *,
    strict: bool = False,
    hints: Hints | None = None,
) -> tuple[str, bool]:
    """Train every selected cell that is not finished in MLflow.

    Args:
        plan: the cells.
        store: MLflow.
        address: of a Ray cluster; None starts Ray on this machine.
        console: for messages and progress.
        strict: only count cells as finished that the current code and versions have trained.
        hints: returns lines to print when the first cells are trained, of the sweep's run.

    Returns: the id of the sweep's run in MLflow, and whether every selected cell is finished.

    Raises:
        UserError: another sweep uses the same storage, the input is invalid, no cell fits on the cluster, or MLflow could not
            be reached when the training ended.
        KeyboardInterrupt: stopped by the user; the same command continues.
    """
    status = "KILLED"
    with locked_storage(plan.recipe.compute), in_use(sqlite_file(store.uri)):
        run = parent(store, plan.name, plan.scale, plan.key, plan.question)
        try:
            record_plan(store, run, plan.settings, plan.cells, plan.layout)
            keep_views(store, run, plan.cells)
            with announced(plan.storage, plan.name, plan.scale, run):
                complete = train_missing(plan, store, run, address, console, strict, hints)
            status = "FINISHED" if complete else "FAILED"
            return run, complete
        except Exception:
            status = "FAILED"
            raise
        finally:
            end_parent(store, run, status)


def train_missing(
    plan: Plan,
    store: Store,
    run: str,
    address: str | None,
    console: Console,
    strict: bool,
    hints: Hints | None,
) -> bool:
    """Train the missing cells; return whether all of them finished."""
    compute = plan.recipe.compute
    phase("looking up finished cells in MLflow")
    done = finished(store, [cell.fingerprint for cell in plan.cells], strict=strict)
    pull(compute.storage_address, [cell for cell in plan.cells if cell.fingerprint not in done])
    for cell in plan.cells:
        check_journal(cell.folder, cell.fingerprint)
    # Cells that were trained while MLflow was unreachable, or before it was emptied, are sent first and not trained again.
    unsent_cells = [
        cell for cell in plan.cells if cell.fingerprint not in done and final_metrics(cell.folder, cell.fingerprint)
    ]
    for cell in unsent_cells:
        replay(store, cell_run_spec(run, cell))
    done |= finished(store, [cell.fingerprint for cell in unsent_cells], strict=strict)
    stopped = {own.fingerprint for own in plan.missing(done) if plan.search and stopped_by(own, plan.search)}
    todo = plan.missing({*done, *stopped})
    left_out = f"{len(done)} already finished" + (f", {len(stopped)} stopped early" if stopped else "")
    console.print(f"{pluralized(len(plan.cells), 'cells')}, {left_out}, {len(todo)} to train")
    if plan.oracle:
        console.print(plan.oracle, soft_wrap=True)
    for line in other_code(done.values()):
        console.print(f"{line}; use --strict-code to retrain them", soft_wrap=True)
    for cell in todo if strict else ():
        archive(store, cell)
    if not todo:
        accept(plan, store, run)
        return True
    # The inputs are checked while Ray starts: both take seconds, and Ray mostly waits.
    phase("starting Ray, and checking data, captions and weights")
    with ThreadPoolExecutor(1) as executor:
        checked = executor.submit(plan.check, todo)
        with ray_session(address) as nodes:
            at_once = concurrency(nodes, compute, may_grow(address))
            grow(address, compute)
            check_nodes(compute)
            checked.result()
            accept(plan, store, run)
            phase("")
            where = compute.storage_address or plan.storage
            console.print(
                f"training {pluralized(min(at_once, len(todo)), 'cells')} at once, in {where}/{CELLS}", soft_wrap=True
            )
            for line in hints(run) if hints else ():
                console.print(line, style="dim", soft_wrap=True)
            with warn_without_room(address, cell_need(compute), partial(cell_slots, compute=compute)):
                complete = train(plan, todo, store, run, at_once, console)
    shutil.rmtree(plan.storage / RAY, ignore_errors=True)
    if compute.storage_address:
        with suppress(UserError):
            Remote(compute.storage_address).delete_folder(RAY)
    return complete


def accept(plan: Plan, store: Store, run: str) -> None:
    """Let a sweep whose inputs are valid fill the table of its name; a refused one leaves that of an earlier sweep."""
    if plan.layout:
        show_table(store, run)


def archive(store: Store, cell: Cell) -> None:
    """Move away the folder of a cell that other code has trained or started, so that it is trained again; keep its results."""
    starts = [record for record in read_journal(cell.folder) if record["type"] == "started"]
    own = all(code_of(record.get("provenance", {})) == code_of(provenance()) for record in starts)
    if own and final_metrics(cell.folder, cell.fingerprint) is None:
        return
    if address := cell.recipe.compute.storage_address:
        Remote(address).delete_folder(remote_path(cell.folder))
    aside = archived(cell.folder)
    # If the command is killed in between, MLflow names weights that are not there until the next run renames the folder.
    move_weights(store, cell.fingerprint, cell.folder / MODEL, aside / MODEL)
    cell.folder.rename(aside)


def train(plan: Plan, todo: Sequence[Cell], store: Store, run: str, at_once: int, console: Console) -> bool:
    """Train cells on a running cluster and send their journals to MLflow; return whether all of them finished."""
    sender, crashes = Sender(store, [cell_run_spec(run, cell) for cell in todo]), Crashes()
    try:
        with (
            # It shows what the last files from an address say, too.
            SweepProgress(todo, at_once, console),
            mirror(plan.recipe.compute.storage_address, todo),
            kill_hung_processes(todo),
        ):
            with out_of_memory_told():
                results = tuner(plan, todo, at_once, crashes).fit()
        failed = reported_failures(results, crashes.recorded)
        note_failures(failed)
    finally:
        unsent = sender.close(timeout=60)
    if unsent:
        raise UserError(
            f"MLflow at {store.safe_uri} has not received {pluralized(unsent, 'records')} ({sender.error}). They are kept in "
            f"{plan.storage / CELLS}. Fix the cause and repeat the command: it sends them and retrains nothing"
        )
    return not failed and not crashes.recorded


class EarlyStops(tune.Callback):
    """Notes which candidates a search stops early, at once: the command may be killed."""

    def __init__(self, search: Search) -> None:
        self._search = search

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: object) -> None:
        """Called when a trial has ended, or Ray Tune's scheduler ends it."""
        # The last report of one that ends by itself is of its errors, and not of a step.
        for cell in trial.config["cells"] if "step" in trial.last_result else ():
            try:
                note_stopped(cell, self._search)
            except (UserError, *REMOTE_ERRORS) as reason:
                log.error("%s was stopped early; this could not be recorded: %s", cell.name, reason)


def tuner(plan: Plan, todo: Sequence[Cell], at_once: int, crashes: Crashes) -> tune.Tuner:
    """Return Ray Tune's tuner over batches of cells: `at_once` trials together, restarted after crashes."""
    # The journals hold every number; Tune's own logs, signal handler and working directories would interfere.
    os.environ |= {
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "RAY_AIR_NEW_OUTPUT": "0",
        "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial's last report holds errors, not the metric
    }
    for name in ("ray.tune.execution.tune_controller", "ray.tune.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    compute = plan.recipe.compute
    return tune.Tuner(
        tune.with_resources(worker.trial, worker.resources(todo[0])),
        param_space={
            "cells": tune.grid_search(worker.batches(todo, at_once)),
            "watched": plan.search is not None,
            "command": uuid.uuid4().hex,
        },
        tune_config=tune.TuneConfig(
            # Ray Train takes seconds to start: one more cell starts while the others train, and waits for resources.
            max_concurrent_trials=at_once + (compute.num_train_workers > 1),
            # A reused process keeps the frozen model and the data; starting one costs as much as many training steps.
            reuse_actors=True,
            scheduler=early_stopping(plan, todo),
            trial_name_creator=lambda trial: trial.trial_id,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name=f"{plan.name}-{time.strftime('%Y%m%d-%H%M%S')}",
            storage_path=str(plan.storage / RAY),
            failure_config=tune.FailureConfig(max_failures=compute.max_failures),
            verbose=0,
            callbacks=[crashes, *([EarlyStops(plan.search)] if plan.search else [])],
        ),
    )


class EarlyStopping(ASHAScheduler):
    """ASHA that counts what candidates have reached in earlier commands, as if this one had trained them."""

    def on_trial_add(self, tune_controller: object, trial: Trial) -> None:
        """Called when a trial is added, which may be resumed."""
        super().on_trial_add(tune_controller, trial)
        for record in (record for cell in trial.config["cells"] for record in read_journal(cell.folder)):
            if record["type"] == "metrics":
                self.on_trial_result(tune_controller, trial, {"step": record["step"], **record["metrics"]})


def early_stopping(plan: Plan, todo: Sequence[Cell]) -> EarlyStopping | None:
    """Return the scheduler that stops the worse candidates of a search; None for other plans."""
    if plan.search is None:
        return None
    metric = main_metric(plan.recipe.task)
    scheduler = EarlyStopping(
        time_attr="step",
        metric=metric,
        mode="min" if lower_is_better(metric) else "max",
        grace_period=plan.search.grace_period,
        reduction_factor=plan.search.reduction_factor,
        max_t=plan.recipe.schedule.iterations,
    )
    for cell in plan.missing({own.fingerprint for own in todo}):
        scheduler.on_trial_add(None, Trial("ended", trial_id=cell.fingerprint, config={"cells": [cell]}, stub=True))
    return scheduler
