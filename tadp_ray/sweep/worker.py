"""The functions that run inside Ray: a Tune trial trains one cell, or with one Ray Train worker a batch of cells.

The driver needs neither Ray Train nor torch, so functions import them.
"""

import functools
import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune

from tadp_ray.config.cell import Cell
from tadp_ray.config.compute import ComputeConfig
from tadp_ray.errors import UserError
from tadp_ray.layout import RAY
from tadp_ray.sweep.address import Remote
from tadp_ray.sweep.alive import free_orphaned_workers, heartbeat
from tadp_ray.sweep.cluster import resources_per_worker
from tadp_ray.sweep.remote import on_node
from tadp_ray.training.journal import final_metrics, read_journal
from tadp_ray.training.reporter import Watch

if TYPE_CHECKING:
    import torch

    from tadp_ray.training.setup import Cache


log = logging.getLogger(__name__)


def resources(cell: Cell) -> tune.PlacementGroupFactory:
    """Return the resources that Ray Tune reserves for a trial.

    With Ray Train workers the trial is only a controller. It is pinned to the head node and takes no CPU, because a controller
    on a worker's node leaves no room to restart that worker after a crash, and the cell would hang.
    """
    if cell.recipe.compute.num_train_workers:
        return tune.PlacementGroupFactory([{"node:__internal_head__": 0.001}])
    return tune.PlacementGroupFactory([resources_per_worker(cell.recipe.compute)])


def batches(todo: Sequence[Cell], at_once: int) -> list[list[Cell]]:
    """Return the cells of each trial.

    Ray Train takes many seconds to start, so with one worker a trial trains a batch of cells; batches take about equally long.
    With several workers a trial trains one cell: if one worker fails, the others must end with it. Without Ray Train a trial
    trains one cell, since Tune reuses the process.
    """
    if todo[0].recipe.compute.num_train_workers != 1:
        return [[cell] for cell in todo]
    filled: list[list[Cell]] = [[] for _ in range(min(at_once, len(todo)))]
    for cell in sorted(todo, key=images, reverse=True):
        min(filled, key=lambda batch: sum(map(images, batch))).append(cell)
    return filled


def images(cell: Cell) -> int:
    """Return how many images a training uses."""
    return cell.recipe.schedule.iterations * cell.recipe.schedule.batch_size


def trial(config: dict[str, Any]) -> None:
    """Train the cells of a trial, and report users' errors by fingerprint."""
    cells: Sequence[Cell] = config["cells"]
    compute = cells[0].recipe.compute
    if compute.num_train_workers:
        run_trainer(cells, config["command"])
    else:
        import torch

        device = torch.device("cuda" if compute.gpus else "cpu")
        watch = report_to_tune if config["watched"] else None
        errors = {cell.fingerprint: train_or_error(cell, device, watch, config["command"]) for cell in cells}
        tune.report({"errors": {fingerprint: error for fingerprint, error in errors.items() if error}})


def report_to_tune(step: int, metrics: Mapping[str, float]) -> None:
    """Report metrics to Ray Tune, which may end this training here if others did better."""
    tune.report({**metrics, "step": step})


@functools.cache
def process_cache(storage: Path) -> "Cache":
    """Return what the cells share that this process trains one after another, with indexes of data in a storage folder."""
    from tadp_ray.data.datasets import Datasets
    from tadp_ray.training.setup import Cache

    return Cache(Datasets(storage))


def train_or_error(cell: Cell, device: "torch.device", watch: Watch | None, command: str) -> str | None:
    """Train a cell; return a user's error, since a restart cannot fix it. Crashes and bugs are left to Ray."""
    from tadp_ray.training.run import train_cell

    log.info("training %s (%s)", cell.name, cell.fingerprint[:16])
    try:
        with heartbeat(cell), on_node(cell) as here:
            train_cell(here, device, watch, command, process_cache(here.recipe.compute.folder))
    except UserError as error:
        return str(error)


def run_trainer(cells: Sequence[Cell], command: str) -> None:
    """Train cells with Ray Train workers, which are restarted from the last checkpoint when one dies.

    Ray Tune handles only a crash of this controller process.
    """
    import ray.train.torch

    compute = cells[0].recipe.compute
    trainer = ray.train.torch.TorchTrainer(
        train_worker,
        train_loop_config={"cells": cells, "command": command},
        scaling_config=ray.train.ScalingConfig(
            num_workers=compute.num_train_workers,
            use_gpu=compute.gpus > 0,
            resources_per_worker=resources_per_worker(compute),
        ),
        run_config=ray.train.RunConfig(
            name=f"{cells[0].fingerprint[:16]}-{tune.get_context().get_trial_id()}",
            **storage_arguments(compute),
            # Start-up is retried forever by default, so a worker that never fits would never fail.
            failure_config=ray.train.FailureConfig(
                max_failures=batch_restarts(compute.max_failures, len(cells)), controller_failure_limit=3
            ),
        ),
    )
    try:
        with free_orphaned_workers():
            tune.report(trainer.fit().return_value)
    except ray.train.TrainingFailedError as error:
        reason, trace = reason_of(error)
        tune.report({"errors": {cell.fingerprint: reason for cell in cells}, "trace": trace})


def batch_restarts(restarts: int, cells: int) -> int:
    """Return how often the worker of a batch is restarted.

    Every cell may fail once more than it is restarted; the last failure ends the batch.

    Args:
        restarts: of each cell.
        cells: their number.
    """
    return (restarts + 1) * cells - 1


def reason_of(error: Exception) -> tuple[str, str | None]:
    """Return why Ray Train gave up, and its traceback; None with a user's error, which any of several workers may have."""
    failures = getattr(error, "worker_failures", {}).values()
    users = [str(own) for own in failures if isinstance(own, UserError)]
    return (users[0], None) if users else (str(error).strip().splitlines()[-1], str(error))


def storage_arguments(compute: ComputeConfig) -> dict[str, Any]:
    """Return Ray Train's arguments for the storage that the workers of a cell share."""
    if compute.storage_address:
        remote = Remote(compute.storage_address)
        return {"storage_filesystem": remote.files, "storage_path": f"{remote.path}/{RAY}"}
    return {"storage_path": str(compute.folder / RAY)}


def train_worker(config: dict[str, Any]) -> dict[str, Any]:
    """Train cells in a Ray Train worker; Ray has initialized the process group.

    A restarted worker skips cells that are finished, that have a user's error, or that have crashed too often.

    Raises:
        UserError: of one of several workers.
    """
    import ray.train.torch

    from tadp_ray.training.distributed import ProcessGroup
    from tadp_ray.training.run import train_cell

    errors, world = {}, ProcessGroup.current()
    first_here = ray.train.get_context().get_local_rank() == 0
    for cell in config["cells"]:
        log.info("training %s (%s)", cell.name, cell.fingerprint[:16])
        try:
            with (
                heartbeat(cell) if world.is_main_process else nullcontext(),
                on_node(cell, first_here, world.is_main_process) as here,
            ):
                # All nodes have fetched the cell's files.
                world.barrier()
                if final_metrics(here.folder, here.fingerprint) is None:
                    reason = skip_reason(here, config["command"], alone=len(config["cells"]) == 1)
                    if reason is None:
                        cache = process_cache(here.recipe.compute.folder)
                        train_cell(here, ray.train.torch.get_device(), command=config["command"], cache=cache)
                    else:
                        errors[cell.fingerprint] = reason
        except UserError as error:
            # The other workers may wait for this one in the middle of a step: Ray Train ends them with it, at once.
            if world.size > 1:
                raise
            errors[cell.fingerprint] = str(error)
    return {"errors": errors}


def skip_reason(cell: Cell, command: str, alone: bool) -> str | None:
    """Return why a command does not retry a cell: a user's error, or too many crashes of its worker; None if it does.

    If the cell is alone in its batch, Ray Train counts the crashes. The command's id marks its records, since the clocks of
    nodes differ.
    """
    records = list(read_journal(cell.folder))
    first = next((index for index, record in enumerate(records) if record.get("command") == command), len(records))
    own = records[first:]
    starts = sum(record["type"] == "started" for record in own)
    failed = own[-1] if own and own[-1]["type"] == "failed" else None
    if failed and "traceback" not in failed:
        return failed["error"]
    if starts > cell.recipe.compute.max_failures and not alone:
        return failed["error"] if failed else f"its worker died {starts} times"
    return None
