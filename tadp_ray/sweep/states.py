"""States of sweeps and of their cells, from MLflow and from the cells' journals. Does not import Ray."""

import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from tadp_ray.config.cell import Cell, each_once
from tadp_ray.config.errors import nearest
from tadp_ray.config.metrics import main_metric
from tadp_ray.config.values import meant
from tadp_ray.config.vocabulary import State
from tadp_ray.errors import UserError
from tadp_ray.layout import ALIVE, JOURNAL
from tadp_ray.sweep.cell_state import CellState
from tadp_ray.sweep.running import RunningSweep, running_sweep
from tadp_ray.tracking.client import StoreError
from tadp_ray.tracking.query import CellRow, finished, rows
from tadp_ray.tracking.store import Store
from tadp_ray.tracking.sweep_run import SweepEntry, SweepRun, read_sweep, sweep_entries
from tadp_ray.wording import first_few

FRESH = 60.0
"""Seconds after a heartbeat, which comes every five, in which a training counts as running."""
REMOTE_FRESH = 600.0
"""The same after a record of its journal, which comes every few steps."""
FINGERPRINT_DIGITS = 6
"""Fewest digits that name a cell."""
HEXADECIMAL = re.compile("[0-9a-f]+")


@dataclass(frozen=True)
class CellReport:
    """The state of one cell."""

    cell: Cell
    state: State
    step: int
    """The last step that its journal or MLflow holds."""
    score: float | None
    """The task's main metric at the latest evaluation."""
    run_id: str | None
    """Of its finished run, else of its newest."""
    error: str | None
    unsent: bool = False
    """Whether its journal holds it as finished, and MLflow does not."""

    def record(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "name": self.cell.name,
            "axes": self.cell.axes,
            "seed": self.cell.seed,
            "fingerprint": self.cell.fingerprint,
            "state": self.state,
            "step": self.step,
            "iterations": self.cell.recipe.schedule.iterations,
            main_metric(self.cell.recipe.task): self.score,
            "run_id": self.run_id,
            "error": self.error,
            "unsent": self.unsent,
            "folder": str(self.cell.folder),
        }


@dataclass(frozen=True)
class SweepReport:
    """The state of one sweep."""

    entry: SweepEntry
    settings: str
    done: int | None
    """Finished cells; None: its plan is unreadable."""
    cells: int | None
    running: bool
    """Whether it runs on the storage folder that was looked at."""
    command: str | None
    """That runs it again, if it says so."""

    @property
    def state(self) -> str:
        """`running`, `finished`, `stopped`, `failed`, or what MLflow says of a sweep that is not known to have ended."""
        if self.running:
            return "running"
        if self.cells is not None and self.done == self.cells:
            return "finished"
        ended = {"KILLED": "stopped", "FAILED": "failed", "FINISHED": "part finished"}
        return ended.get(self.entry.status, "elsewhere or killed")

    def record(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "name": self.entry.name,
            "scale": self.entry.scale,
            "state": self.state,
            "finished": self.done,
            "cells": self.cells,
            "started": self.entry.asked,
            "settings": self.settings,
            "command": self.command,
            "run_id": self.entry.run_id,
        }


def sweep_reports(store: Store, storage: Path) -> list[SweepReport]:
    """Return the sweeps of a store, the one that was last started first; `storage` is looked at for a running one."""
    running, entries = running_sweep(storage), sweep_entries(store)
    plans = readable_sweeps(store, entries)
    done = finished(store, list({cell.fingerprint for plan in plans.values() for cell in plan.cells}))
    return [sweep_report(entry, plans.get(entry.run_id), done, running) for entry in entries]


def readable_sweeps(store: Store, entries: Sequence[SweepEntry]) -> dict[str, SweepRun]:
    """Return the sweeps by the ids of their runs, but for those whose plans other code wrote, or that are incomplete."""
    found: dict[str, SweepRun] = {}
    for entry in entries:
        with suppress(UserError):
            found[entry.run_id] = read_sweep(store, entry.run_id)
    return found


def sweep_report(
    entry: SweepEntry, plan: SweepRun | None, done: Mapping[str, CellRow], running: RunningSweep | None
) -> SweepReport:
    """Return the state of a sweep from its plan, if that is readable, and the finished cells by fingerprint."""
    prints = {cell.fingerprint for cell in plan.cells} if plan else set()
    return SweepReport(
        entry,
        settings=plan.settings if plan else "",
        done=len(prints & done.keys()) if plan else None,
        cells=len(prints) if plan else None,
        running=running is not None and running.run_id == entry.run_id,
        command=plan.layout["command"] if plan and plan.layout else None,
    )


def find_sweep(store: Store, name: str | None, storage: Path) -> tuple[SweepEntry, SweepRun]:
    """Return the newest sweep of a name; without one the sweep that runs on a storage folder, else the newest of all.

    Raises:
        UserError: the store holds no such sweep, or its plan is unreadable.
    """
    entries = sweep_entries(store, name)
    if not entries:
        known = sorted({entry.name for entry in sweep_entries(store)}) if name else []
        hint = f"; {nearest(name, known)}" if name and known else "; run one first, or name its store (--tracking-uri)"
        raise UserError(f"MLflow at {store.safe_uri} holds no sweep{f' called {name}' if name else ''}{hint}")
    running = running_sweep(storage)
    chosen = next((entry for entry in entries if running and entry.run_id == running.run_id), entries[0])
    return chosen, read_sweep(store, chosen.run_id)


def cell_reports(store: Store, entry: SweepEntry, plan: SweepRun) -> list[CellReport]:
    """Return the states of a sweep's cells, in their order."""
    done = finished(store, [cell.fingerprint for cell in plan.cells])
    newest = {row.fingerprint: row for row in rows(store, entry.name)}
    return [cell_report(cell, done.get(cell.fingerprint), newest.get(cell.fingerprint)) for cell in plan.cells]


def cell_report(cell: Cell, done: CellRow | None, newest: CellRow | None) -> CellReport:
    """Return the state of a cell.

    Args:
        cell: the cell; its journal is read where its folder is on this machine.
        done: its finished run in MLflow.
        newest: its newest run in MLflow.
    """
    metric, steps = main_metric(cell.recipe.task), cell.recipe.schedule.iterations
    run = newest.run_id if newest else None
    # --strict-code trains a finished cell again, in a new journal. Without a sign of life nobody does, and it is not read.
    seen = CellState.read(cell) if not done or is_alive(cell) else CellState(cell)
    if done and seen.status != "training":
        return CellReport(cell, "finished", steps, done.metrics.get(metric), done.run_id, None)
    if seen.status == "training":
        # A sweep that ends marks its cells in MLflow while their last heartbeats still count.
        ended = newest is not None and newest.state == "interrupted"
        state: State = "training" if is_alive(cell) and not ended else "interrupted"
        return CellReport(cell, state, seen.step, seen.score, run, None)
    if seen.status:
        unsent = seen.status == "finished"
        return CellReport(cell, seen.status, seen.step, seen.score, run, seen.error, unsent)
    if newest is None:
        return CellReport(cell, "not started", 0, None, None, None)
    # Its files are on another machine.
    return CellReport(cell, newest.state, 0, newest.metrics.get(metric), run, newest.error)


def is_alive(cell: Cell) -> bool:
    """Return whether a cell's training process has sent a heartbeat, or with remote storage written its journal, lately."""
    remote = cell.recipe.compute.storage_address is not None
    # Heartbeats at an address are not copied to this machine, and journals are while the sweep runs.
    file, fresh = (JOURNAL, REMOTE_FRESH) if remote else (ALIVE, FRESH)
    try:
        return time.time() - (cell.folder / file).stat().st_mtime < fresh
    except OSError:
        return False


def find_cell(store: Store, words: Sequence[str], name: str | None, storage: Path) -> Cell:
    """Return the cell that words name.

    Args:
        store: MLflow.
        words: the id of a run, the first digits of a fingerprint, or values of axes as for `meant`.
        name: of the sweep to look in; None: for values the one that runs or is the newest, else all.
        storage: the storage folder, see `find_sweep`.

    Raises:
        UserError: no cell or more than one fits.
    """
    said = " ".join(words)
    digits = words[0].lower()
    is_value = len(words) > 1 or not HEXADECIMAL.fullmatch(digits)
    if is_value or len(digits) < FINGERPRINT_DIGITS:
        _, plan = find_sweep(store, name, storage)
        fitting = cells_with(plan.cells, words)
        if not (is_value or fitting):
            raise UserError(
                f"{said}: no value of the sweep's cells; name at least {FINGERPRINT_DIGITS} digits of a fingerprint"
            )
        return the_one(said, plan.cells, fitting)
    wanted = fingerprint_of(store, digits) or digits
    plans = readable_sweeps(store, sweep_entries(store, name)).values()
    cells = {cell.fingerprint: cell for plan in plans for cell in plan.cells}
    fitting = [cell for fingerprint, cell in cells.items() if fingerprint.startswith(wanted)]
    return the_one(said, list(cells.values()), fitting)


def fingerprint_of(store: Store, run_id: str) -> str | None:
    """Return the fingerprint of a cell's run; None if the store holds no such run."""
    try:
        run = store.client.get_run(run_id)
    except StoreError:
        return None
    return run.data.tags.get("tadp.fingerprint")


def cells_with(cells: Sequence[Cell], words: Sequence[str]) -> list[Cell]:
    """Return the cells of a sweep that have the values of all words, which `meant` reads; the seed is an axis.

    Raises:
        UserError: several axes have a name or a value.
    """
    values: list[dict[str, JsonValue]] = [{**cell.axes, "seed": cell.seed} for cell in cells]
    axes: dict[str, list[JsonValue]] = {}
    for own in values:
        for axis, value in own.items():
            if value not in axes.setdefault(axis, []):
                axes[axis].append(value)
    wanted = [meant(word, axes) for word in words]
    pairs = zip(cells, values, strict=True)
    return [cell for cell, own in pairs if all(pair is not None and pair in own.items() for pair in wanted)]


def the_one(said: str, cells: Sequence[Cell], fitting: Sequence[Cell]) -> Cell:
    """Return the only fitting cell.

    Raises:
        UserError: none fits, or several do.
    """
    distinct = each_once(fitting)
    if len(distinct) == 1:
        return distinct[0]
    shown, fault = (
        (distinct, f"{len(distinct)} cells fit, name more") if distinct else (cells, "no cell fits; there are")
    )
    names = first_few((f"{cell.name} ({cell.fingerprint[:8]})" for cell in shown), separator="; ")
    raise UserError(f"{said}: {fault}: {names}")
