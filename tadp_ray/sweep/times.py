"""How long the cells of a plan will take: by finished cells like them, and by the speed of GPUs. Does not import Ray."""

import heapq
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from tadp_ray.config.cell import Cell
from tadp_ray.sweep.kinds import CellKind
from tadp_ray.sweep.throughput import Card, Speed
from tadp_ray.tracking.names import flatten
from tadp_ray.training.step_cost import StepCost
from tadp_ray.wording import pluralized

if TYPE_CHECKING:
    # MLflow's import takes seconds, which a plan without finished cells does not need.
    from tadp_ray.tracking.query import CellRow

OTHER_CAPTIONS = "evaluation.captions."
COST_NEUTRAL = ("caption.", "compute.", "data.root", OTHER_CAPTIONS)
"""Prefixes of recipe keys that do not change how long a cell takes; of compute, only workers and GPUs are compared, of further
captions only their number."""


def estimate(todo: Sequence[Cell], earlier: Sequence["CellRow"], at_once: int) -> str:
    """Return a line on how long the cells will take, estimated from finished cells with the same settings."""
    if not todo:
        return "nothing to train"
    alike = rows_alike(todo, earlier)
    times = {fingerprint: median_seconds(rows) for fingerprint, rows in alike.items()}
    if not times:
        return "time: unknown, since no finished cell has these settings"
    seconds: dict[str, float] = {}
    for cell in (cell for cell in todo if cell.fingerprint in times):
        compute = cell.recipe.compute
        unit, count = ("GPU", compute.gpus) if compute.gpus else ("core", compute.cpus)
        seconds[unit] = seconds.get(unit, 0) + times[cell.fingerprint] * compute.world_size * count
    spent = ", ".join(f"{value / 3600:.2f} {unit}-hours" for unit, value in seconds.items())
    rows = {row.run_id: row for found in alike.values() for row in found}.values()
    machines = "; ".join(sorted({row.hardware for row in rows}))
    span = f"{timedelta(seconds=round(finished_after(list(times.values()), at_once)))} for " if at_once else ""
    lacking = len(todo) - len(times)
    others = f"; of the other {lacking} it is unknown, since no finished cell has their settings" if lacking else ""
    return (
        f"time: about {span}{pluralized(len(times), 'cells')}, {spent}; from {pluralized(len(rows), 'finished cells')} of "
        f"{median_seconds(list(rows)):.0f} s (median) on {machines}{others}"
    )


def known_times(todo: Sequence[Cell], earlier: Sequence["CellRow"]) -> dict[str, float]:
    """Return the expected seconds by fingerprint of the cells whose settings a finished cell has."""
    return {fingerprint: median_seconds(rows) for fingerprint, rows in rows_alike(todo, earlier).items()}


def median_seconds(rows: Sequence["CellRow"]) -> float:
    """Return the median time of finished cells."""
    return statistics.median(row.metrics["seconds"] for row in rows)


def rows_alike(todo: Sequence[Cell], earlier: Sequence["CellRow"]) -> dict[str, list["CellRow"]]:
    """Return the finished cells that take as long as each cell, by its fingerprint; without cells that have none."""
    by_keys: dict[str, list[CellRow]] = {}
    by_group: dict[str, list[CellRow]] = {}
    for cell in {cell.group: cell for cell in todo}.values():
        cost, scored = cost_keys(cell), len(cell.recipe.evaluation.captions)
        key = json.dumps([cost, scored], sort_keys=True)
        if key not in by_keys:
            by_keys[key] = [
                row
                for row in earlier
                if all(row.params.get(name) == value for name, value in cost.items())
                and other_captions_of(row) == scored
            ]
        by_group[cell.group] = by_keys[key]
    return {cell.fingerprint: by_group[cell.group] for cell in todo if by_group[cell.group]}


def finished_after(seconds: Sequence[float], at_once: int) -> float:
    """Return the seconds after which cells are finished that are started in order, so many at once."""
    free = [0.0] * at_once
    for each in seconds:
        heapq.heapreplace(free, free[0] + each)
    return max(free)


def cost_keys(cell: Cell) -> dict[str, str]:
    """Return the settings that a cell's time depends on, as MLflow's parameters: steps, sizes and workers."""
    settings = flatten(cell.recipe.model_dump(mode="json"))
    compared = ("compute.num_train_workers", "compute.gpus")
    return {key: value for key, value in settings.items() if not key.startswith(COST_NEUTRAL) or key in compared}


def other_captions_of(row: "CellRow") -> int:
    """Return the number of further captions that a finished cell was scored with."""
    return sum(key.startswith(OTHER_CAPTIONS) and key.endswith(".source") for key in row.params)


@dataclass(frozen=True)
class CardHours:
    """What the steps of all cells that are left take on one kind of GPU."""

    card: str
    hours: float
    """GPU-hours: the sum over GPUs. Evaluations, checkpoints and starts come on top."""
    source: str
    """Where the speed is from."""
    needed_gib: float | None
    """Memory of a card: that counted for its workers, times measured bytes for each counted one. None: nothing was measured."""
    fits: bool | None
    """Whether the card has it; None: not known."""
    dollars: float | None


def card_hours(
    todo: Sequence[Cell], kinds: Sequence[CellKind], cards: Sequence[Card], price: float | None
) -> Iterator[CardHours]:
    """Yield the GPU-hours of the cells that are left on each card whose speed in their precision is known."""
    costs = {cell.fingerprint: kind.cost for kind in kinds for cell in kind.cells}
    for card in cards:
        speeds = [card.speed(cell.recipe) for cell in todo]
        found = [speed for speed in speeds if speed]
        if not todo or len(found) < len(speeds):
            continue
        flops = [costs[cell.fingerprint].flops * cell.recipe.schedule.iterations for cell in todo]
        hours = sum(count / speed.flops for count, speed in zip(flops, found, strict=True)) / 3600
        needed = needed_gib(todo, found, costs)
        steps = zip(todo, found, strict=True)
        sources = "; ".join(dict.fromkeys(speed.source_of(costs[cell.fingerprint].flops) for cell, speed in steps))
        yield CardHours(
            card.name, hours, sources, needed, has_room(card, needed, todo), None if price is None else hours * price
        )


def needed_gib(todo: Sequence[Cell], speeds: Sequence[Speed], costs: Mapping[str, StepCost]) -> float | None:
    """Return the memory that a card needs for its workers, of the cell that needs most; None if nothing was measured of one."""
    needed = 0.0
    for cell, speed in zip(todo, speeds, strict=True):
        if speed.memory_ratio is None:
            return None
        # Workers with a share of a GPU have a share of its memory.
        counted = costs[cell.fingerprint].memory_bytes / min(1, cell.recipe.compute.gpus) / 2**30
        needed = max(needed, counted * speed.memory_ratio)
    return needed


def has_room(card: Card, needed: float | None, todo: Sequence[Cell]) -> bool | None:
    """Return whether a card has the memory that is needed; None: not known."""
    if needed is None or card.memory_gib is None:
        return None
    # What recomputing activations saves is neither counted nor measured.
    recomputed = any(cell.recipe.compute.gradient_checkpointing for cell in todo)
    return True if needed <= card.memory_gib else None if recomputed else False


def hours_lines(cards: Sequence[CardHours], unknown: int) -> Iterator[str]:
    """Yield lines on the GPU-hours of the steps on each card."""
    if not cards:
        return
    most = ", if none of the cells that are not known to be finished is" if unknown else ""
    yield f"steps alone, without evaluations, checkpoints and starts{most}:"
    for own in cards:
        dollars = "" if own.dollars is None else f", ${own.dollars:,.2f}"
        yield f"  {own.card}: {own.hours:,.2f} GPU-hours{dollars} ({own.source}){room_text(own)}"


def room_text(card: CardHours) -> str:
    """Return what there is to say on a card's memory; empty if it suffices."""
    if card.fits is None:
        return "; whether its memory suffices is not known"
    return "" if card.fits else f"; its memory is too small: about {card.needed_gib:.1f} GiB are needed"
