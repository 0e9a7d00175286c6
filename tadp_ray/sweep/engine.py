"""Runs the cells of a plan on Ray: reuses what is finished, continues what was interrupted, trains the rest."""

import logging
import os
import shutil
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from filelock import BaseFileLock
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler
from rich.console import Console

from tadp_ray.config.cell import Cell
from tadp_ray.config.compute import ComputeConfig
from tadp_ray.config.metrics import lower_is_better, main_metric
from tadp_ray.errors import UserError
from tadp_ray.files import acquire_lock, write_text
from tadp_ray.layout import CELLS, JOURNAL, MODEL, RAY, SWEEP_LOCK, TRACEBACK, WORKER_LOG
from tadp_ray.sweep import worker
from tadp_ray.sweep.address import Remote, place
from tadp_ray.sweep.alive import watched
from tadp_ray.sweep.cluster import cluster, grow
from tadp_ray.sweep.logs import worker_log
from tadp_ray.sweep.nodes import check_nodes
from tadp_ray.sweep.plan import Plan
from tadp_ray.sweep.progress import SweepProgress
from tadp_ray.sweep.remote import mirrored, on_node, pull
from tadp_ray.tracking.journal_run import move_weights
from tadp_ray.tracking.query import finished, other_code
from tadp_ray.tracking.run_spec import cell_run_spec
from tadp_ray.tracking.sender import Sender, replay
from tadp_ray.tracking.store import Store
from tadp_ray.tracking.sweep_run import end_parent, parent, record_plan
from tadp_ray.training.journal import check_journal, failure, final_metrics, read_journal
from tadp_ray.training.provenance import code_of, provenance
from tadp_ray.training.reporter import Journal

log = logging.getLogger(__name__)


def run_plan(
    plan: Plan, store: Store, address: str | None, console: Console, *, strict: bool = False
) -> tuple[str, bool]:
    """Fill the table of a plan: train every asked cell that MLflow does not hold as finished.

    `strict`: as finished by the code and the versions that run now.

    Returns: the sweep's run in MLflow, and whether every cell that was asked for is finished.

    Raises:
        UserError: another sweep is at work on the same storage, the input does not fit, no cell fits on the cluster, or
            MLflow was away when the training ended.
        KeyboardInterrupt: stopped by the user; the same command continues.
    """
    lock = claim(plan.recipe.compute)
    status = "KILLED"
    try:
        run = parent(store, plan.name, plan.scale, plan.key, plan.question)
        try:
            record_plan(store, run, plan.settings, plan.cells)
            whole = fill(plan, store, run, address, console, strict)
            status = "FINISHED" if whole else "FAILED"
            return run, whole
        finally:
            end_parent(store, run, status)
    finally:
        lock.release()


def claim(compute: ComputeConfig) -> BaseFileLock:
    """A lock on the storage folder, held until it is released. An address has none: two sweeps there do the same work twice.

    Raises:
        UserError: the storage cannot be written, or another sweep is at work there.
    """
    if compute.address:
        Remote(compute.address).claim()
    try:
        compute.folder.mkdir(parents=True, exist_ok=True)
        return acquire_lock(compute.folder / SWEEP_LOCK)
    except OSError as error:
        raise UserError(
            f"compute.storage {compute.folder}: cannot be written ({error.strerror}); name another folder with "
            "--set compute.storage"
        ) from None


def fill(plan: Plan, store: Store, run: str, address: str | None, console: Console, strict: bool) -> bool:
    """Train what is missing; returns whether all of it finished."""
    done = finished(store, [cell.fingerprint for cell in plan.cells], strict=strict)
    pull(plan.recipe.compute.address, [cell for cell in plan.cells if cell.fingerprint not in done])
    for cell in plan.cells:
        check_journal(cell.folder, cell.fingerprint)
    # What was trained while MLflow was away, or before it was emptied, is told first and never trained again.
    untold = [
        cell for cell in plan.cells if cell.fingerprint not in done and final_metrics(cell.folder, cell.fingerprint)
    ]
    for cell in untold:
        replay(store, cell_run_spec(run, cell))
    done |= finished(store, [cell.fingerprint for cell in untold], strict=strict)
    todo = plan.missing(done)
    console.print(f"{len(plan.cells)} cells, {len(done)} finished before, {len(todo)} to train")
    if plan.oracle:
        console.print(plan.oracle, soft_wrap=True)
    for line in other_code(done.values()):
        console.print(f"{line}; --strict-code trains them again", soft_wrap=True)
    for cell in todo if strict else ():
        set_aside(store, cell)
    if not todo:
        return True
    # What the input does not allow is found while Ray starts: both take seconds, and Ray mostly waits.
    with ThreadPoolExecutor(1) as aside:
        checked = aside.submit(plan.check, todo)
        with cluster(address, plan.recipe.compute) as at_once:
            grow(plan.recipe.compute)
            check_nodes(plan.recipe.compute)
            checked.result()
            where = plan.recipe.compute.address or plan.storage
            console.print(f"training {min(at_once, len(todo))} cells at once, in {where}/{CELLS}", soft_wrap=True)
            whole = train(plan, todo, store, run, at_once, console)
    shutil.rmtree(plan.storage / RAY, ignore_errors=True)
    if address := plan.recipe.compute.address:
        Remote(address).tidy()
    return whole


def set_aside(store: Store, cell: Cell) -> None:
    """Begin a cell anew that other code has trained or begun; what that one has scored stays, and so do its weights."""
    starts = [record for record in read_journal(cell.folder) if record["type"] == "started"]
    own = all(code_of(record.get("provenance", {})) == code_of(provenance()) for record in starts)
    if own and final_metrics(cell.folder, cell.fingerprint) is None:
        return
    if address := cell.recipe.compute.address:
        Remote(address).delete_folder(place(cell.folder))
    began = int((cell.folder / JOURNAL).stat().st_mtime)
    aside = cell.folder.with_name(f"{cell.folder.name}.{began}")
    # A command that is killed in between names weights that are not there, and does the rest the next time.
    move_weights(store, cell.fingerprint, cell.folder / MODEL, aside / MODEL)
    cell.folder.rename(aside)


def train(plan: Plan, todo: Sequence[Cell], store: Store, run: str, at_once: int, console: Console) -> bool:
    """Train cells on a running cluster while their journals go to MLflow; returns whether all of them finished."""
    sender = Sender(store, [cell_run_spec(run, cell) for cell in todo])
    try:
        with mirrored(plan.recipe.compute.address, todo), watched(todo), SweepProgress(todo, at_once, console):
            results = tuner(plan, todo, at_once).fit()
        failed = failures(results)
        for cell, said, trace in failed:
            note_failure(cell, said, trace)
    finally:
        unsent = sender.close(timeout=60)
    if unsent:
        raise UserError(
            f"MLflow at {store.shown} lacks {unsent} records ({sender.why}); they are kept in {plan.storage / CELLS}: mend "
            "that and run this again, which sends them and trains nothing twice"
        )
    return not failed


def failures(results: tune.ResultGrid) -> list[tuple[Cell, str, str]]:
    """The cells without a result, what each said, and all that Ray tells of it."""
    failed = []
    for result in results:
        told = result.metrics or {}
        trace = str(result.error) if result.error else told.get("trace", "")
        crash = trace.strip().splitlines()[-1] if result.error else None
        for cell in result.config["cells"]:
            said = told.get("errors", {}).get(cell.fingerprint, crash)
            if said and final_metrics(cell.folder, cell.fingerprint) is None:
                failed.append((cell, said, trace))
    return failed


def note_failure(cell: Cell, said: str, trace: str) -> None:
    """Close the journal of a cell that a bug or a crash has ended, and tell where its whole traceback is.

    What the user must mend stands there already. A process that was killed, or was out of memory, could write nothing: what
    Ray tells of it takes the traceback's place.
    """
    known = failure(cell.folder)
    if known and known.traceback is None:
        return
    printed = worker_log(cell.folder)
    with on_node(cell) as here:
        if printed:
            write_text(here.folder / WORKER_LOG, printed)
        if known and (here.folder / TRACEBACK).is_file():
            said, trace = known.error, (here.folder / TRACEBACK).read_text(encoding="utf-8")
        with Journal(here.folder, cell.fingerprint) as journal:
            journal.fail(said, trace)
    pull(cell.recipe.compute.address, [cell])
    log.error("%s failed: %s; the whole traceback: %s", cell.name, said, cell.folder / TRACEBACK)


class Recovery(tune.Callback):
    """Tells of a process that died, and whose cell goes on, in one line; Ray Tune would print where it noticed."""

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: object) -> None:
        """Ray Tune has scheduled a trial again."""
        cells = trial.config["cells"]
        known = failure(cells[0].folder)
        why = f"a training failed ({known.error})" if known else "a training process died"
        log.warning("%s; going on from its last checkpoint: %s", why, " and ".join(cell.name for cell in cells))


def tuner(plan: Plan, todo: Sequence[Cell], at_once: int) -> tune.Tuner:
    """Ray Tune over lanes of cells, restarted after crashes, `at_once` together."""
    # The journals hold every number; Tune's own copies, signal handler and working-folder change would only interfere.
    os.environ |= {
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "RAY_AIR_NEW_OUTPUT": "0",
        "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial's last report tells errors, not the metric
    }
    logging.getLogger("ray.tune.execution.tune_controller").setLevel(logging.CRITICAL)
    compute = plan.recipe.compute
    return tune.Tuner(
        tune.with_resources(worker.trial, worker.resources(todo[0])),
        param_space={
            "cells": tune.grid_search(worker.batches(todo, at_once)),
            "watched": plan.search is not None,
            "command": uuid.uuid4().hex,
        },
        tune_config=tune.TuneConfig(
            # Ray Train's start costs seconds: one more cell gets ready while the others train, and waits for a place.
            max_concurrent_trials=at_once + (compute.num_train_workers > 1),
            # A warm process keeps the frozen model and the data; starting one costs as much as many training steps.
            reuse_actors=True,
            scheduler=halving(plan),
            trial_name_creator=lambda trial: trial.trial_id,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name=f"{plan.name}-{time.strftime('%Y%m%d-%H%M%S')}",
            storage_path=str(plan.storage / RAY),
            failure_config=tune.FailureConfig(max_failures=compute.max_failures),
            verbose=0,
            callbacks=[Recovery()],
        ),
    )


def halving(plan: Plan) -> ASHAScheduler | None:
    """Gives up those candidates of a search that do worse than others did at the same step."""
    if plan.search is None:
        return None
    metric = main_metric(plan.recipe.task)
    return ASHAScheduler(
        time_attr="step",
        metric=metric,
        mode="min" if lower_is_better(metric) else "max",
        grace_period=plan.search.grace_period,
        reduction_factor=plan.search.reduction_factor,
        max_t=plan.recipe.schedule.iterations,
    )
