"""What a sweep would do and cost, told before anything is spent. Knows no Ray."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

from tadp_ray.config.cell import Cell
from tadp_ray.sweep.plan import Plan
from tadp_ray.tracking.journal_run import flatten
from tadp_ray.tracking.query import CellRow
from tadp_ray.training.cost import step_cost
from tadp_ray.training.study import Study

SAME_COST = ("caption.", "compute.", "data.root")
"""Recipe keys that do not change how long a cell takes, compute aside, which is compared by its workers alone."""


def preview(plan: Plan, done: Mapping[str, CellRow], earlier: Sequence[CellRow], at_once: int) -> Iterator[str]:
    """The lines that `--dry-run` prints.

    Args:
        plan: the sweep.
        done: finished cells by fingerprint.
        earlier: finished cells of the same experiment and scale, whose speed is known.
        at_once: how many cells the cluster holds together.
    """
    recipe, compute = plan.recipe, plan.recipe.compute
    todo = plan.missing(done)
    yield f"{plan.name} at {plan.scale} scale, {plan.settings}: {len(plan.cells)} cells, {len(todo)} to train"
    for cell in plan.cells:
        yield f"  {cell.name:<40} {cell.fingerprint[:16]}  {state(plan, cell, done)}"
    where = f"{compute.workers} Ray Train worker(s)" if compute.workers else "the sweep's own process"
    yield (
        f"each cell: {recipe.schedule.iterations} steps of {recipe.schedule.batch_size} images in {where}, "
        f"{compute.cpus} CPUs and {compute.gpus:g} GPUs each; {at_once} cells at once"
    )
    cost = step_cost(Study(recipe, plan.cells[0].seed))
    yield f"parameters: {cost.trained:,} trained, {cost.frozen:,} frozen"
    yield (
        f"one step: {cost.flops / 1e9:,.1f} GFLOP; in each worker {mib(cost.state_bytes)} of weights, gradients and "
        f"AdamW moments, {mib(cost.activation_bytes)} of activations"
    )
    yield estimate(todo, earlier, at_once)


def state(plan: Plan, cell: Cell, done: Mapping[str, CellRow]) -> str:
    """What is to be done about a cell."""
    if cell.fingerprint in done:
        return f"finished, run {done[cell.fingerprint].run_id}"
    return "to train" if cell in plan.asked else "left out by --only"


def estimate(todo: Sequence[Cell], earlier: Sequence[CellRow], at_once: int) -> str:
    """How long the cells will take, from finished cells of the same settings, or that it is unknown."""
    if not todo:
        return "nothing to train"
    alike = [row for row in earlier if costs_the_same(row, todo[0])]
    if not alike:
        return "time: unknown, no finished cell has these settings yet"
    seconds = statistics.median(row.metrics["seconds"] for row in alike)
    compute, rounds = todo[0].recipe.compute, -(-len(todo) // at_once)
    hours = len(todo) * seconds * compute.world_size / 3600
    cost = f"{hours * compute.gpus:.2f} GPU-hours" if compute.gpus else f"{hours * compute.cpus:.2f} core-hours"
    machines = "; ".join(sorted({row.hardware for row in alike}))
    return (
        f"time: about {timedelta(seconds=round(rounds * seconds))} for {len(todo)} cells, {cost}; from {len(alike)} "
        f"finished cells of {seconds:.0f} s (median) on {machines}"
    )


def costs_the_same(row: CellRow, cell: Cell) -> bool:
    """Whether a finished cell took the steps, sizes and workers of another."""
    wanted = flatten(cell.recipe.model_dump(mode="json"))
    keys = [key for key in wanted if not key.startswith(SAME_COST) or key in ("compute.workers", "compute.gpus")]
    return all(row.params.get(key) == wanted[key] for key in keys)


def mib(size: int) -> str:
    """Bytes in MiB."""
    return f"{size / 2**20:,.0f} MiB"
