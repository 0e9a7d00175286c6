"""Experiments as data frames: one row for each cell, run on Ray or read out of MLflow."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from tadp_ray.config.cell import Cell
from tadp_ray.config.schema import Recipe
from tadp_ray.config.vocabulary import Scale
from tadp_ray.errors import UserError
from tadp_ray.sweep.plan import Plan, make_plan, plan_recipe
from tadp_ray.tracking.query import CellRow, finished, held, rows
from tadp_ray.tracking.store import Store, open_store

PLANNED = "PLANNED"
"""Status of a cell that MLflow holds no run of."""


def read_experiment(
    file: str | os.PathLike,
    scale: Scale = "pocket",
    *,
    recipe: str | os.PathLike | None = None,
    changes: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
    only: Sequence[str] = (),
    tracking_uri: str | None = None,
    dry: bool = False,
) -> pd.DataFrame:
    """An experiment's cells as far as they are trained; trains nothing.

    Columns: one for each axis of the sweep, by its key; `seed`; `status`, which is MLflow's RUNNING, FINISHED, FAILED or
    KILLED, or PLANNED where there is no run; `run_id`; `error`; `fingerprint`; then every metric by its name, in the unit of
    its table (mIoU and AP in %, RMSE in metres), NaN where there is none.

    Args:
        file: an experiment, e.g. experiments/prec_recall.yaml.
        scale: which of its recipes: "pocket" or "paper".
        recipe: another recipe file than the experiment's own.
        changes: `key=value` texts laid over the recipe, e.g. "schedule.iterations=800".
        seeds: instead of the experiment's.
        only: a part of the grid, e.g. "caption.recall=1.0".
        tracking_uri: MLflow's store: sqlite:///FILE, a server, a database; None: MLFLOW_TRACKING_URI, or ./mlflow.db.
        dry: list the cells alone and ask no store: every status is PLANNED.

    Raises:
        UserError: the file, a text, the data or the weights do not fit, or there is no such store.
    """
    plan = planned(file, scale, recipe, changes, seeds, only)
    return plan_frame(plan, {}, {}) if dry else read_plan(plan, open_store(tracking_uri, make=False))


def run_experiment(
    file: str | os.PathLike,
    scale: Scale = "pocket",
    *,
    recipe: str | os.PathLike | None = None,
    changes: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
    only: Sequence[str] = (),
    address: str | None = None,
    tracking_uri: str | None = None,
    strict: bool = False,
    quiet: bool = False,
) -> pd.DataFrame:
    """Train an experiment's cells that are not finished, on Ray, and return the rows of `read_experiment`.

    It goes on where it was stopped, and trains no finished cell again. A cell that failed has the status FAILED and its error.

    Args:
        file: an experiment; `scale`, `recipe`, `changes`, `seeds`, `only` and `tracking_uri` as for `read_experiment`.
        scale: "pocket" or "paper".
        recipe: another recipe file.
        changes: texts laid over the recipe.
        seeds: instead of the experiment's.
        only: a part of the grid.
        address: Ray cluster to join; None: RAY_ADDRESS, or a local one.
        tracking_uri: MLflow's store; a SQLite file is made if it is not there.
        strict: train again what other code of this package, or other versions of what trains, have trained.
        quiet: print no progress.

    Raises:
        UserError: something does not fit, no cell fits on the cluster, or another sweep is at work on the same storage.
        KeyboardInterrupt: stopped; the same call goes on.
    """
    return run_and_read(planned(file, scale, recipe, changes, seeds, only), address, tracking_uri, strict, quiet)


def train(
    recipe: Recipe,
    name: str,
    *,
    seed: int = 0,
    address: str | None = None,
    tracking_uri: str | None = None,
    strict: bool = False,
    quiet: bool = False,
) -> pd.Series:
    """Train one recipe on Ray, unless it is trained already, and return its row of `read_experiment`.

    Args:
        recipe: as of `build_recipe`.
        name: of the MLflow experiment that bears the run.
        seed: of everything that chance decides.
        address: Ray cluster to join; None: RAY_ADDRESS, or a local one.
        tracking_uri: MLflow's store; a SQLite file is made if it is not there.
        strict: train again what other code of this package has trained.
        quiet: print no progress.

    Raises:
        UserError: something does not fit; what a training itself cannot bear is in its row, as `error`.
    """
    if not re.fullmatch(r"\w[\w .-]*", name):
        raise UserError(f"name={name!r}: expected letters, digits, blanks, dots and dashes, e.g. 'my_depth'")
    question = "How well does one training by a recipe made in Python do?"
    plan = plan_recipe(recipe, name, "recipe made in Python", question, seed)
    return run_and_read(plan, address, tracking_uri, strict, quiet).iloc[0]


def planned(
    file: str | os.PathLike,
    scale: Scale,
    recipe: str | os.PathLike | None,
    changes: Sequence[str],
    seeds: Sequence[int] | None,
    only: Sequence[str],
) -> Plan:
    """The cells of an experiment file."""
    for name, texts in {"changes": changes, "only": only}.items():
        if isinstance(texts, str):
            raise UserError(f"{name}={texts!r}: expected a list of key=value texts; write {name}=[{texts!r}]")
    swapped = None if recipe is None else Path(recipe)
    return make_plan(Path(file), scale, recipe=swapped, overrides=changes, seeds=seeds, only=only)


def run_and_read(plan: Plan, address: str | None, tracking_uri: str | None, strict: bool, quiet: bool) -> pd.DataFrame:
    """Train what a plan lacks, and read it."""
    from tadp_ray.sweep.engine import run_plan

    store = open_store(tracking_uri)
    console = Console(quiet=quiet, markup=False, highlight=False, emoji=False)
    _, whole = run_plan(plan, store, address, console, strict=strict)
    if whole:
        held(store, plan.selected)
    return read_plan(plan, store)


def read_plan(plan: Plan, store: Store) -> pd.DataFrame:
    """The cells that a plan asks for, as a store holds them."""
    newest = {row.fingerprint: row for row in rows(store, plan.name, plan.recipe.scale)}
    return plan_frame(plan, finished(store, [cell.fingerprint for cell in plan.selected]), newest)


def plan_frame(plan: Plan, done: Mapping[str, CellRow], newest: Mapping[str, CellRow]) -> pd.DataFrame:
    """A row for each cell: the finished run of its fingerprint, or else the newest one."""
    return pd.DataFrame(
        [record(cell, done.get(cell.fingerprint) or newest.get(cell.fingerprint)) for cell in plan.selected]
    )


def record(cell: Cell, row: CellRow | None) -> dict[str, Any]:
    """A cell by column."""
    return {
        **cell.axes,
        "seed": cell.seed,
        "status": row.status if row else PLANNED,
        "run_id": row.run_id if row else None,
        "error": row.error if row else None,
        "fingerprint": cell.fingerprint,
        **(row.metrics if row else {}),
    }
