"""Deletes files of finished cells by rules, each with what needs them. Does not import Ray."""

import functools
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tadp_ray.config.cell import Cell
from tadp_ray.errors import UserError
from tadp_ray.files import is_locked
from tadp_ray.layout import CELL, CELLS, LOCK
from tadp_ray.sweep.rules import RULES
from tadp_ray.tracking.query import CellRow, finished_runs
from tadp_ray.tracking.store import Store
from tadp_ray.training.journal import final_metrics, start_of


@dataclass(frozen=True)
class Removable:
    """The files that one rule deletes."""

    rule: str
    files: tuple[Path, ...]
    size: int
    """In bytes."""
    cells: int
    """Number of cells that have some."""

    def record(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "rule": self.rule,
            "cells": self.cells,
            "files": [str(file) for file in self.files],
            "bytes": self.size,
            "loss": RULES[self.rule].loss or None,
        }


def removable(
    store: Store, storage: Path, rules: Sequence[str], experiment: str | None = None, days: float = 0.0
) -> list[Removable]:
    """Return the files of finished cells in a storage folder that rules delete. Others are never among them.

    A cell is finished if the folder's own training has ended and MLflow holds that as finished, so that everything but the
    weights is there, too: the cell may be trained again with other code, while MLflow holds the earlier result.

    Args:
        store: MLflow.
        storage: the storage folder.
        rules: names of `RULES`.
        experiment: name of the sweeps whose cells are looked at; None: all.
        days: how long ago a file was written at least.
    """
    cells = [cell for cell in cells_in(storage) if experiment in (None, cell[0].experiment)]
    runs = finished_runs(store, [cell.fingerprint for cell, _ in cells])
    folders = [
        folder for cell, folder in cells if has_ended(cell, folder) and is_held(cell, folder, runs[cell.fingerprint])
    ]
    latest = time.time() - days * 86400
    found = []
    for name in rules:
        by_folder = [
            [file for file in RULES[name].files(folder) if file.stat().st_mtime <= latest] for folder in folders
        ]
        files = tuple(file for own in by_folder for file in own)
        found.append(Removable(name, files, sum(file.stat().st_size for file in files), sum(map(bool, by_folder))))
    return found


def cells_in(storage: Path) -> list[tuple[Cell, Path]]:
    """Return the cells of a storage folder with their folders; those that other code wrote are left out.

    Raises:
        UserError: there is no such folder.
    """
    if not (storage / CELLS).is_dir():
        raise UserError(f"{storage}: holds no {CELLS}; name the folder of the sweeps with --storage")
    read = [(read_cell(record.parent), record.parent) for record in sorted((storage / CELLS).glob(f"*/{CELL}"))]
    return [(cell, folder) for cell, folder in read if cell]


def read_cell(folder: Path) -> Cell | None:
    """Return the cell of a folder; None if it holds none, or one that other code wrote."""
    try:
        return Cell.of_record(json.loads((folder / CELL).read_bytes()))
    except (OSError, ValueError):
        return None


def has_ended(cell: Cell, folder: Path) -> bool:
    """Return whether the training in a cell's folder has finished, and no process writes there."""
    return final_metrics(folder, cell.fingerprint) is not None and not is_locked(folder / LOCK)


def is_held(cell: Cell, folder: Path, runs: Iterable[CellRow]) -> bool:
    """Return whether one of a cell's runs in MLflow is that of the training in its folder: both began at the same time."""
    began = start_of(folder, cell.fingerprint)
    return any(round(1000 * row.start_time) == began for row in runs)


def delete(found: Iterable[Removable]) -> int:
    """Delete the files, and return how many bytes were freed; cells that are in training again by now keep theirs."""
    freed = 0
    ended = functools.cache(lambda folder: (cell := read_cell(folder)) is not None and has_ended(cell, folder))
    for each in found:
        for file in each.files:
            if file.is_file() and ended(file.parent):
                freed += file.stat().st_size
                file.unlink()
    return freed
