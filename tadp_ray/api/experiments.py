"""Experiments as data frames, one row per cell: run on Ray or read from MLflow."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from tadp_ray.config.asked import NAME
from tadp_ray.config.cell import Cell
from tadp_ray.config.recipe import Recipe
from tadp_ray.config.shipped import file_of, is_experiment, shipped
from tadp_ray.config.vocabulary import Scale, seeds_of
from tadp_ray.errors import UserError
from tadp_ray.sweep.choices import Choices
from tadp_ray.sweep.interruption import require_main_thread
from tadp_ray.sweep.plan import Plan
from tadp_ray.sweep.planning import choose, plan_recipe
from tadp_ray.tracking.query import CellRow, finished, require_finished, rows
from tadp_ray.tracking.store import Store, existing_store, open_store
from tadp_ray.tracking.sweep_run import read_sweep


def read_experiment(
    file: str | os.PathLike | None = None,
    scale: Scale = "pocket",
    *,
    recipe: str | os.PathLike | None = None,
    changes: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
    only: Sequence[str] = (),
    axes: Sequence[str] = (),
    name: str | None = None,
    tracking_uri: str | None = None,
    dry: bool = False,
) -> pd.DataFrame:
    """Read the cells of an experiment, or of a sweep in the store, from MLflow; train nothing.

    `read_experiment(recipe="pocket_segmentation", axes=["model.timestep=1,50"])` reads a sweep without an experiment's file.

    The columns are the sweep's axes by their keys; `seed`; `state`, which is finished, training, failed or interrupted, as the
    cell's run in MLflow says, or not started if it has no run; `run_id`; `error`; `fingerprint`; and every metric in the unit of
    the tables (mIoU and AP in %, RMSE in metres), NaN if missing.

    Args:
        file: an experiment: a file, or the name of a shipped one, e.g. "prec_recall"; or the name of a sweep in the store, whose
            cells are those that it was started with. None: `recipe` at `axes`.
        scale: which of its recipes: "pocket" or "paper".
        recipe: a recipe, a file or the name of a shipped one, that replaces the experiment's own.
        changes: `key=value` texts that override the recipe, e.g. "schedule.iterations=800".
        seeds: replace the experiment's.
        only: `axis=value` texts that select a part of the grid, e.g. "caption.recall=1.0".
        axes: `key=value,value` texts: axes that are added to the experiment's, e.g. "model.timestep=1,50,200".
        name: of a sweep with axes; None: made from its recipe and axes.
        tracking_uri: MLflow store: sqlite:///FILE, or the URL of a server or database; None: MLFLOW_TRACKING_URI, or
            ./mlflow.db.
        dry: only list the cells, without a store; every state is `not started`.

    Raises:
        UserError: the file, a text, the data or the weights are invalid, or there is no such store or sweep.
    """
    if isinstance(file, str) and not dry and not is_experiment(Path(file)) and (store := existing_store(tracking_uri)):
        plan = stored_plan(store, file, scale)
        chosen = {
            "recipe": recipe,
            "changes": changes,
            "seeds": seeds is not None,
            "only": only,
            "axes": axes,
            "name": name,
        }
        if given := [key for key, value in chosen.items() if value]:
            raise UserError(f"{file}: a sweep in MLflow, whose cells are fixed; leave {', '.join(given)} out")
        return read_plan(plan, store)
    plan = planned(file, scale, recipe, changes, seeds, only, axes, name)
    return plan_frame(plan, {}, {}) if dry else read_plan(plan, open_store(tracking_uri, make=False))


def run_experiment(
    file: str | os.PathLike | None = None,
    scale: Scale = "pocket",
    *,
    recipe: str | os.PathLike | None = None,
    changes: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
    only: Sequence[str] = (),
    axes: Sequence[str] = (),
    name: str | None = None,
    address: str | None = None,
    tracking_uri: str | None = None,
    strict: bool = False,
    quiet: bool = False,
) -> pd.DataFrame:
    """Train an experiment's cells that are not finished, on Ray, and return the rows of `read_experiment`.

    It resumes interrupted cells and does not train finished ones again. A failed cell has the state failed and its error.
    `run_experiment(recipe="pocket_segmentation", axes=["model.timestep=1,50"])` needs no experiment's file.

    Args:
        file: an experiment: a file, or the name of a shipped one. None: `recipe` at `axes`.
        scale: which of its recipes: "pocket" or "paper".
        recipe: a recipe, a file or the name of a shipped one, that replaces the experiment's own.
        changes: `key=value` texts that override the recipe.
        seeds: replace the experiment's.
        only: `axis=value` texts that select a part of the grid.
        axes: `key=value,value` texts: axes that are added to the experiment's.
        name: of a sweep with axes; None: made from its recipe and axes.
        address: Ray cluster to join; None: RAY_ADDRESS, or a local one.
        tracking_uri: MLflow store; a missing SQLite file is created.
        strict: train cells again if other code, or other versions of torch and the like, have trained them.
        quiet: print no progress.

    Raises:
        UserError: the input is invalid, no cell fits on the cluster, another sweep uses the same storage, or this is not the
            main thread.
        KeyboardInterrupt: stopped; the same call resumes.
    """
    require_main_thread()
    plan = planned(file, scale, recipe, changes, seeds, only, axes, name)
    return run_and_read(plan, address, tracking_uri, strict, quiet)


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
    """Train one recipe on Ray, unless it is already trained, and return its row of `read_experiment`.

    Args:
        recipe: from `build_recipe`.
        name: of the MLflow experiment.
        seed: random seed.
        address: Ray cluster to join; None: RAY_ADDRESS, or a local one.
        tracking_uri: MLflow store; a missing SQLite file is created.
        strict: train the cell again if other code has trained it.
        quiet: print no progress.

    Raises:
        UserError: the input is invalid, or this is not the main thread. Errors during training are in the row, as `error`.
    """
    require_main_thread()
    if not NAME.fullmatch(name):
        raise UserError(
            f"name={name!r}: expected letters, digits, spaces, dots, dashes and underscores, e.g. 'my_depth'"
        )
    try:
        (seed,) = seeds_of([seed])
    except ValueError:
        raise UserError(f"seed={seed!r}: expected an integer from 0") from None
    question = "What does one training with a recipe made in Python reach?"
    plan = plan_recipe(recipe, name, "recipe made in Python", question, seed)
    return run_and_read(plan, address, tracking_uri, strict, quiet).iloc[0]


def planned(
    file: str | os.PathLike | None,
    scale: Scale,
    recipe: str | os.PathLike | None,
    changes: Sequence[str],
    seeds: Sequence[int] | None,
    only: Sequence[str],
    axes: Sequence[str],
    name: str | None,
) -> Plan:
    """Return the plan of an experiment's file, or without one of a recipe at axes."""
    for argument, texts in {"changes": changes, "only": only, "axes": axes}.items():
        if isinstance(texts, str):
            raise UserError(f"{argument}={texts!r}: expected a list of key=value texts; write {argument}=[{texts!r}]")
    if file is None and not (recipe and axes):
        raise UserError(
            "name an experiment, e.g. 'prec_recall', or a recipe and what is to vary, e.g. recipe='pocket_segmentation', "
            "axes=['model.timestep=1,50']"
        )
    if name and not axes:
        raise UserError(f"name={name!r}: names a sweep with axes; an experiment has the name of its file")
    experiment, recipe_file = named_file("file", file, "experiments"), named_file("recipe", recipe, "recipes")
    return choose(
        experiment, scale, recipe_file, Choices(overrides=changes, seeds=seeds, only=only, axes=axes, name=name)
    )


def named_file(argument: str, value: object, kind: str) -> Path | None:
    """Return the file of an argument; None if it is None.

    Raises:
        UserError: it is neither a path nor the name of a shipped file.
    """
    if value is None:
        return None
    if isinstance(value, Recipe):
        raise UserError(
            f"{argument}: made in Python, but cells of a sweep vary a recipe's file; name a file or a shipped recipe, with "
            "changes=['key=value'], or train this one with tadp_ray.train(recipe, name)"
        )
    if not isinstance(value, str | os.PathLike):
        raise UserError(f"{argument}={value!r}: expected a file, or the name of a shipped one")
    return file_of(Path(value), kind)


def stored_plan(store: Store, name: str, scale: Scale) -> Plan:
    """Return the plan of the newest sweep of a name, as it was started.

    Raises:
        UserError: the store holds no such sweep, or its plan is unreadable.
    """
    # It imports what draws figures.
    from tadp_ray.reporting.results import stored_sweep

    entry = stored_sweep(store, name, scale, [*shipped("experiments")])
    sweep = read_sweep(store, entry.run_id)
    return Plan(entry.name, sweep.settings, entry.scale, "", sweep.cells, sweep.cells)


def run_and_read(plan: Plan, address: str | None, tracking_uri: str | None, strict: bool, quiet: bool) -> pd.DataFrame:
    """Train the missing cells of a plan, and return its rows."""
    from tadp_ray.sweep.engine import run_plan

    store = open_store(tracking_uri)
    console = Console(quiet=quiet, markup=False, highlight=False, emoji=False)
    _, complete = run_plan(plan, store, address, console, strict=strict)
    if complete:
        require_finished(store, plan.selected)
    return read_plan(plan, store, strict)


def read_plan(plan: Plan, store: Store, strict: bool = False) -> pd.DataFrame:
    """Return the rows of a plan's selected cells from a store; `strict`: finished runs of other code do not count."""
    found = rows(store, plan.name)
    newest = {row.fingerprint: row for row in found if not (strict and row.status == "FINISHED")}
    return plan_frame(plan, finished(store, [cell.fingerprint for cell in plan.selected], strict=strict), newest)


def plan_frame(plan: Plan, done: Mapping[str, CellRow], newest: Mapping[str, CellRow]) -> pd.DataFrame:
    """Return a row per selected cell: of its finished run, else of its newest run."""
    return pd.DataFrame(
        [record(cell, done.get(cell.fingerprint) or newest.get(cell.fingerprint)) for cell in plan.selected]
    )


def record(cell: Cell, row: CellRow | None) -> dict[str, Any]:
    """Return a cell's row as a dict."""
    return {
        **cell.axes,
        "seed": cell.seed,
        "state": row.state if row else "not started",
        "run_id": row.run_id if row else None,
        "error": row.error if row else None,
        "fingerprint": cell.fingerprint,
        **(row.metrics if row else {}),
    }
