"""The options of `sweep --dry-run`, and what it and `train --dry-run` plan."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tadp_ray.errors import UserError
from tadp_ray.phases import phase

if TYPE_CHECKING:
    from tadp_ray.sweep.plan import Plan
    from tadp_ray.sweep.preview import Preview
    from tadp_ray.tracking.query import CellRow
    from tadp_ray.tracking.store import Store

PriceOption = Annotated[
    float | None, typer.Option(min=0, help="Price in dollars per GPU-hour, for --dry-run.", show_default="no price")
]
MeasuredOption = Annotated[
    Path | None,
    typer.Option(
        help="gpu.json from benchmarks/gpu.py on your GPU, to estimate the GPU-hours of --dry-run.",
        show_default="an H200 and an H100",
    ),
]


def check_dry(**options: object) -> None:
    """Raise UserError if an option of --dry-run is given without it."""
    for name, value in options.items():
        if value is not None:
            raise UserError(f"--{name} belongs to --dry-run; leave it out, or add --dry-run")


def plan_preview(
    plan: "Plan",
    store: "Store | None",
    address: str | None,
    strict: bool,
    price: float | None,
    measured: Path | None,
) -> "Preview":
    """Return what a sweep would do and cost; without a store, no cell counts as finished."""
    from tadp_ray.sweep.cluster import fitting_cells
    from tadp_ray.sweep.preview import preview
    from tadp_ray.sweep.throughput import known_cards, measured_card
    from tadp_ray.training.digests import all_hashed

    cards = [measured_card(measured)] if measured else known_cards()
    done: Mapping[str, CellRow] = {}
    earlier: Sequence[CellRow] = ()
    if store:
        from tadp_ray.tracking.query import PAGE, finished, rows

        done = finished(store, [cell.fingerprint for cell in plan.cells], strict=strict)
        earlier = rows(store, plan.name, scale=plan.recipe.scale, finished=True, newest=PAGE)
    phase("checking data, captions and weights")
    # What the check loads is counted, too.
    cache = functools.cache(plan.new_cache)
    plan.check([cell for cell in plan.missing(done) if all_hashed(cell)], cache)
    at_once, where = fitting_cells(address, plan.recipe.compute)
    phase("counting the cost of a step")
    return preview(plan, done, earlier, at_once, where, cards, price, cache)


def recipe_lines(recipe: Path, changes: Sequence[str], seed: int) -> list[str]:
    """Return what `train` would do, after a check of the inputs that are there."""
    from tadp_ray.config.load import load_recipe
    from tadp_ray.hub import cached_only
    from tadp_ray.sweep.planning import plan_loaded
    from tadp_ray.sweep.preview import recipe_preview
    from tadp_ray.training.digests import all_hashed

    with cached_only():
        loaded = load_recipe(recipe, changes)
        plan = plan_loaded(loaded, recipe, changes, seed, dry=True)
        plan.warn()
        plan.check([cell for cell in plan.cells if all_hashed(cell)])
        return list(recipe_preview(loaded, plan.absent))
