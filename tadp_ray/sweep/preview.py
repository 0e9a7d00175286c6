"""What a sweep would do and cost (`--dry-run`). Does not import Ray."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tadp_ray.config.cell import Cell
from tadp_ray.config.recipe import Recipe
from tadp_ray.config.yaml12 import dump_yaml
from tadp_ray.sweep.disk import DiskUse, disk_use
from tadp_ray.sweep.inputs import scored_stores_of_ground_truth, stores_of_ground_truth
from tadp_ray.sweep.kinds import CellKind, cost_lines, kind_lines, kinds_of, lower_memory, memory_line, planned_cost
from tadp_ray.sweep.plan import Plan, oracle_line, scored_oracle_line
from tadp_ray.sweep.throughput import Card
from tadp_ray.sweep.times import CardHours, card_hours, estimate, finished_after, hours_lines, known_times
from tadp_ray.training.digests import all_hashed
from tadp_ray.wording import devices, pluralized

if TYPE_CHECKING:
    # As in `times`.
    from tadp_ray.tracking.query import CellRow
    from tadp_ray.training.setup import Cache


@dataclass(frozen=True)
class Preview:
    """What a sweep would do and cost."""

    plan: Plan
    done: Mapping[str, "CellRow"]
    """Finished cells by fingerprint."""
    todo: tuple[Cell, ...]
    """Selected cells that are not finished, or not known to be."""
    kinds: tuple[CellKind, ...]
    """The selected cells, by the cost of a step."""
    earlier: Sequence["CellRow"]
    """Finished cells of the same experiment and scale, whose times give the estimate."""
    at_once: int
    """How many cells fit on the cluster at once; 0: none."""
    where: str
    """The nodes of the cluster in words; empty: not named."""
    cards: tuple[CardHours, ...] = ()
    disk: DiskUse | None = None

    @property
    def unknown(self) -> int:
        """How many cells to train may be finished: something that they read is missing, and so their fingerprint."""
        return sum(not all_hashed(cell) for cell in self.todo)

    def lines(self) -> Iterator[str]:
        """Yield the lines that `--dry-run` prints."""
        plan, recipe, compute = self.plan, self.plan.recipe, self.plan.recipe.compute
        unknown = f", {self.unknown} not known whether finished" if self.unknown else ""
        # --scale chooses the experiment's files; a cell has the scale of its data and weights.
        own = f" (its cells are of the {recipe.scale} scale)" if recipe.scale != plan.scale else ""
        yield (
            f"{plan.name} at {plan.scale} scale{own}, {plan.settings}: {pluralized(len(plan.cells), 'cells')}, "
            f"{len(self.todo) - self.unknown} to train{unknown}"
        )
        if plan.oracle:
            yield plan.oracle
        yield from absent_lines(plan.absent)
        for cell in plan.cells:
            yield f"  {cell.name:<40} {cell.fingerprint[:16] if all_hashed(cell) else '-':<16}  {self._decision(cell)}"
        workers = (
            pluralized(compute.num_train_workers, "Ray Train workers")
            if compute.num_train_workers
            else "the sweep's own process"
        )
        steps = {cell.recipe.schedule.iterations for cell in plan.selected} or {recipe.schedule.iterations}
        *fewer, most = sorted(steps)
        fit = f"{pluralized(self.at_once, 'cells')} at once" if self.at_once else "no cell fits here"
        yield (
            f"each cell: {' or '.join([*(f'{each:,}' for each in fewer), pluralized(most, 'steps')])} of "
            f"{pluralized(recipe.schedule.batch_size, 'images')} in {workers}, {devices(compute.cpus, compute.gpus)} each; {fit}"
            + (f", on {self.where}" if self.where else "")
        )
        yield from kind_lines(self.kinds)
        if self.disk:
            yield self.disk.line()
        yield estimate(self.todo, self.earlier, self.at_once)
        yield from hours_lines(self.cards, self.unknown)

    def finished(self, cell: Cell) -> bool | None:
        """Return whether MLflow holds a cell as finished; None: not known, since something that it reads is missing."""
        return cell.fingerprint in self.done if all_hashed(cell) else None

    @cached_property
    def selected(self) -> frozenset[str]:
        """The fingerprints of the cells that --only selects."""
        return frozenset(cell.fingerprint for cell in self.plan.selected)

    def _decision(self, cell: Cell) -> str:
        finished = self.finished(cell)
        if finished:
            return f"finished, run {self.done[cell.fingerprint].run_id}"
        if cell.fingerprint not in self.selected:
            return "not selected by --only"
        return "not known whether finished, since something it reads is missing" if finished is None else "to train"

    def record(self) -> dict[str, Any]:
        """Return the preview as JSON values. Bytes, floating-point operations, seconds and hours."""
        times = known_times(self.todo, self.earlier)
        return {
            "name": self.plan.name,
            "scale": self.plan.scale,
            "settings": self.plan.settings,
            "missing": list(self.plan.absent),
            "cells": [
                {
                    "name": cell.name,
                    "axes": cell.axes,
                    "seed": cell.seed,
                    "fingerprint": cell.fingerprint if all_hashed(cell) else None,
                    "selected": cell.fingerprint in self.selected,
                    "finished": self.finished(cell),
                    "run_id": self.done[cell.fingerprint].run_id if cell.fingerprint in self.done else None,
                    "iterations": cell.recipe.schedule.iterations,
                }
                for cell in self.plan.cells
            ],
            "kinds": [
                {
                    "cells": [cell.name for cell in kind.cells],
                    "trained_parameters": kind.cost.trained,
                    "step_flops": kind.cost.flops,
                    "step_images": kind.cost.images,
                    "worker_memory_bytes": kind.cost.memory_bytes,
                    "notes": list(kind.notes),
                }
                for kind in self.kinds
            ],
            "cells_at_once": self.at_once,
            "seconds": finished_after(list(times.values()), self.at_once)
            if times and self.at_once and len(times) == len(self.todo)
            else None,
            "disk": dataclasses.asdict(self.disk) if self.disk else None,
            "gpu_hours": [dataclasses.asdict(card) for card in self.cards],
            "memory_keys": lower_memory(self.kinds),
        }


def preview(
    plan: Plan,
    done: Mapping[str, "CellRow"],
    earlier: Sequence["CellRow"],
    at_once: int,
    where: str = "",
    cards: Sequence[Card] = (),
    price: float | None = None,
    cache: Callable[[], "Cache"] | None = None,
) -> Preview:
    """Return what a sweep would do and cost. Where data, weights or captions are missing, sizes are those of their names.

    Args:
        plan: the sweep.
        done: finished cells by fingerprint.
        earlier: finished cells of the same experiment and scale, whose times give the estimate.
        at_once: how many cells fit on the cluster at once; 0: none.
        where: the nodes of the cluster in words.
        cards: GPUs for which hours are estimated.
        price: dollars of a GPU-hour.
        cache: returns what `Plan.check` has loaded, if a step has to be traced. None: a new one.

    Raises:
        UserError: weights are there, but damaged.
    """
    todo, kinds = plan.missing(done), kinds_of(plan, cache)
    hours = card_hours(todo, kinds, cards, price) if plan.recipe.compute.gpus else ()
    storage = None if plan.recipe.compute.storage_address else plan.storage
    disk = disk_use(todo, kinds, at_once, storage)
    return Preview(plan, done, tuple(todo), tuple(kinds), earlier, at_once, where, tuple(hours), disk)


def absent_lines(absent: Sequence[str]) -> Iterator[str]:
    """Yield lines on what is missing (`Plan.absent`), and where it was looked for."""
    for problem in absent:
        yield f"missing: {problem}"
    if absent:
        yield f"relative paths are looked for in {Path.cwd()}"


def recipe_preview(recipe: Recipe, absent: Sequence[str] = ()) -> Iterator[str]:
    """Yield the lines that `train --dry-run` prints: every setting, what is missing, and the cost of a step.

    It needs neither data nor weights nor captions, see `planned_cost`.
    """
    yield dump_yaml(recipe.model_dump(mode="json")).rstrip()
    yield from absent_lines(absent)
    if recipe.caption.uses_ground_truth or stores_of_ground_truth(recipe):
        yield oracle_line("the captions of the cell", [recipe.caption.source])
    if oracles := recipe.evaluation.oracles(scored_stores_of_ground_truth(recipe)):
        yield scored_oracle_line(oracles)
    cost, notes = planned_cost(recipe)
    yield from notes
    yield from cost_lines(recipe, cost)
    if keys := lower_memory([CellKind((), cost)], recipe):
        yield memory_line(keys)
