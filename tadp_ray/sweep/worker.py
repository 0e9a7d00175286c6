"""What runs inside Ray: one Tune trial trains one cell, or with a Ray Train worker one cell after another.

The driver and a trial without Ray Train workers need neither Ray Train nor, here, torch: each function imports its own.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from ray import tune

from tadp_ray.config.cell import Cell
from tadp_ray.config.compute import ComputeConfig
from tadp_ray.errors import UserError
from tadp_ray.layout import RAY
from tadp_ray.sweep.address import Remote
from tadp_ray.sweep.alive import beating
from tadp_ray.sweep.cluster import resources_per_worker
from tadp_ray.sweep.remote import on_node
from tadp_ray.training.journal import final_metrics, read_journal
from tadp_ray.training.reporter import Watch

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


def resources(cell: Cell) -> tune.PlacementGroupFactory:
    """What Ray Tune reserves for a trial.

    With Ray Train workers the trial only steers: it is pinned to the head node and takes no CPU, because a steering
    process on a worker's node leaves no room to restart that worker after a crash, and the cell would hang.
    """
    if cell.recipe.compute.num_train_workers:
        return tune.PlacementGroupFactory([{"node:__internal_head__": 0.001}])
    return tune.PlacementGroupFactory([resources_per_worker(cell.recipe.compute)])


def batches(todo: Sequence[Cell], at_once: int) -> list[list[Cell]]:
    """The cells of each trial.

    Ray Train's start costs many seconds, so one worker trains a lane of cells, lanes being about equally long. Several
    workers train one cell a trial: if one of them alone meets a fault, the others must end with it. So does a warm trial
    process without Ray Train, which costs nothing to go on with.
    """
    if todo[0].recipe.compute.num_train_workers != 1:
        return [[cell] for cell in todo]
    filled: list[list[Cell]] = [[] for _ in range(min(at_once, len(todo)))]
    for cell in sorted(todo, key=images, reverse=True):
        min(filled, key=lambda lane: sum(map(images, lane))).append(cell)
    return filled


def images(cell: Cell) -> int:
    """How many images a training shows its model."""
    return cell.recipe.schedule.iterations * cell.recipe.schedule.batch_size


def trial(config: dict[str, Any]) -> None:
    """Train the cells that Tune hands over, and report by fingerprint what the user must mend."""
    cells: Sequence[Cell] = config["cells"]
    compute = cells[0].recipe.compute
    if compute.num_train_workers:
        run_trainer(cells, config["command"])
    else:
        import torch

        device = torch.device("cuda" if compute.gpus else "cpu")
        watch = tell_tune if config["watched"] else None
        said = {cell.fingerprint: attempt(cell, device, watch, config["command"]) for cell in cells}
        tune.report({"errors": {fingerprint: error for fingerprint, error in said.items() if error}})


def tell_tune(step: int, metrics: Mapping[str, float]) -> None:
    """Tell Ray Tune how good a model is, which ends this training here if others did better."""
    tune.report({**metrics, "step": step})


def attempt(cell: Cell, device: "torch.device", watch: Watch | None = None, command: str = "") -> str | None:
    """The error of a cell that the user must mend, which no restart can; crashes and bugs are left to Ray."""
    from tadp_ray.training.run import train_cell

    log.info("takes up %s (%s)", cell.name, cell.fingerprint[:16])
    try:
        with on_node(cell) as here, beating(here.folder):
            train_cell(here, device, watch, command)
    except UserError as error:
        return str(error)


def run_trainer(cells: Sequence[Cell], command: str) -> None:
    """Train cells with Ray Train workers, restarted from the newest cell's checkpoint when one dies.

    Only a crash of this steering process is left to Ray Tune.
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
            **ray_storage(compute),
            # Start-up retries are endless by default: a worker that never fits would never fail.
            # A cell may kill its worker once more often than it is restarted; the last time of all ends the lane.
            failure_config=ray.train.FailureConfig(
                max_failures=(compute.max_failures + 1) * len(cells) - 1, controller_failure_limit=3
            ),
        ),
    )
    try:
        tune.report(trainer.fit().return_value)
    except ray.train.TrainingFailedError as error:
        said = str(error).strip().splitlines()[-1]
        tune.report({"errors": {cell.fingerprint: said for cell in cells}, "trace": str(error)})


def ray_storage(compute: ComputeConfig) -> dict[str, Any]:
    """Where the workers of a cell find each other's notes, as Ray Train is told."""
    if compute.address:
        remote = Remote(compute.address)
        return {"storage_filesystem": remote.files, "storage_path": f"{remote.path}/{RAY}"}
    return {"storage_path": str(compute.folder / RAY)}


def train_worker(config: dict[str, Any]) -> dict[str, Any]:
    """One of the Ray Train workers; the process group is up when it starts.

    A restarted worker passes over what is finished or for the user to mend, and over a cell that has ended it too often.
    """
    import ray.train.torch

    from tadp_ray.training.distributed import ProcessGroup
    from tadp_ray.training.run import train_cell

    errors, world = {}, ProcessGroup.current()
    first_here = ray.train.get_context().get_local_rank() == 0
    for cell in config["cells"]:
        log.info("takes up %s (%s)", cell.name, cell.fingerprint[:16])
        try:
            with on_node(cell, first_here, world.is_main_process) as here:
                # Every node has by then what another one has left of this cell.
                world.barrier()
                if final_metrics(here.folder, here.fingerprint) is None:
                    reason = given_up(here, config["command"], patient=len(config["cells"]) == 1)
                    if reason is None:
                        with beating(here.folder) if world.is_main_process else nullcontext():
                            train_cell(here, ray.train.torch.get_device(), command=config["command"])
                    else:
                        errors[cell.fingerprint] = reason
        except UserError as error:
            errors[cell.fingerprint] = str(error)
    return {"errors": errors}


def given_up(cell: Cell, command: str, patient: bool) -> str | None:
    """Why a cell is not taken up once more by a command: the user must mend it, or it has ended its worker too often.

    A patient lane, of one cell, leaves the counting to Ray Train. The command's records are known by its id, since the
    clocks of nodes differ.
    """
    records = list(read_journal(cell.folder))
    first = next((place for place, record in enumerate(records) if record.get("command") == command), len(records))
    own = records[first:]
    starts = sum(record["type"] == "started" for record in own)
    failed = own[-1] if own and own[-1]["type"] == "failed" else None
    if failed and "traceback" not in failed:
        return failed["error"]
    if starts > cell.recipe.compute.max_failures and not patient:
        return failed["error"] if failed else f"its worker died {starts} times"
    return None
