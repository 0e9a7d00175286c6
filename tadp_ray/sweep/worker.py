"""What runs inside Ray: one Tune trial trains one cell, alone or with Ray Train workers.

The driver and a trial without Ray Train workers need neither Ray Train nor, here, torch: each function imports its own.
"""

from typing import TYPE_CHECKING, Any

from ray import tune

from tadp_ray.config.cell import Cell

if TYPE_CHECKING:
    import torch


def resources(cell: Cell) -> tune.PlacementGroupFactory:
    """What Ray Tune reserves for a trial.

    With Ray Train workers the trial only steers: it is pinned to the head node and takes no CPU, because a steering
    process on a worker's node leaves no room to restart that worker after a crash, and the cell would hang.
    """
    if cell.recipe.compute.workers:
        return tune.PlacementGroupFactory([{"node:__internal_head__": 0.001}])
    return tune.PlacementGroupFactory([share(cell)])


def share(cell: Cell) -> dict[str, float]:
    """What one training process reserves on its node."""
    compute = cell.recipe.compute
    return {"CPU": compute.cpus, **({"GPU": compute.gpus} if compute.gpus else {})}


def trial(config: dict[str, Any]) -> None:
    """Train the cell that Tune hands over, and report its final metrics, or what the user must mend."""
    cell = Cell.model_validate_json(config["cell"])
    if cell.recipe.compute.workers:
        steer(cell)
    else:
        import torch

        tune.report(attempt(cell, torch.device("cuda" if cell.recipe.compute.gpus else "cpu")))


def attempt(cell: Cell, device: "torch.device") -> dict[str, Any]:
    """Final metrics, or the error of a cell that no restart can mend (bad input); crashes are left to Ray."""
    from tadp_ray.training.run import train_cell

    try:
        return {"step": train_cell(cell, device)["best_step"]}
    except ValueError as error:
        return {"error": str(error)}


def steer(cell: Cell) -> None:
    """Train one cell with Ray Train workers, restarted from the cell's checkpoint when one dies.

    Workers that die again and again end the cell; only a crash of this steering process is left to Ray Tune.
    """
    import ray.train.torch

    compute = cell.recipe.compute
    trainer = ray.train.torch.TorchTrainer(
        train_worker,
        train_loop_config={"cell": cell.model_dump_json()},
        scaling_config=ray.train.ScalingConfig(
            num_workers=compute.workers, use_gpu=compute.gpus > 0, resources_per_worker=share(cell)
        ),
        run_config=ray.train.RunConfig(
            name=f"{cell.fingerprint[:16]}-{tune.get_context().get_trial_id()}",
            storage_path=str(compute.storage.absolute() / "ray"),
            # Start-up retries are endless by default: a worker that never fits would never fail.
            failure_config=ray.train.FailureConfig(max_failures=compute.max_failures, controller_failure_limit=3),
        ),
    )
    try:
        tune.report(trainer.fit().return_value)
    except ray.train.TrainingFailedError as error:
        tune.report({"error": str(error).strip().splitlines()[-1]})


def train_worker(config: dict[str, Any]) -> dict[str, Any]:
    """One of a cell's Ray Train workers; the process group is up when it starts."""
    import ray.train.torch

    cell = Cell.model_validate_json(config["cell"])
    return attempt(cell, ray.train.torch.get_device())
