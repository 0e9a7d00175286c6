"""The MLflow run of a sweep: its cells are child runs, its plan and its results are artifacts."""

import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlflow.entities import Metric, RunTag

from tadp_ray.config.cell import Cell
from tadp_ray.config.vocabulary import Scale
from tadp_ray.errors import UserError
from tadp_ray.layout import PLAN
from tadp_ray.tracking.client import StoreError, first_line
from tadp_ray.tracking.journal_run import same
from tadp_ray.tracking.names import MAX_KEY_LENGTH, clean, encode
from tadp_ray.tracking.query import as_logged, pages, read_cell, stored_file
from tadp_ray.tracking.store import Store
from tadp_ray.training.provenance import provenance

log = logging.getLogger(__name__)

NOTE = "mlflow.note.content"
"""MLflow's tag for the Markdown that a run's page shows."""
ASKED = "tadp.asked"
"""Tag: when the sweep was last started."""
TABLE = "tadp.table"
"""Tag of a sweep that fills a table, which a training or a search of its name does not: when its inputs were last found valid."""


@dataclass(frozen=True)
class SweepRun:
    """A sweep in MLflow, with all that its table needs."""

    run_id: str
    settings: str
    """The recipe and its overrides."""
    cells: tuple[Cell, ...]
    layout: Mapping[str, Any] | None = None
    """What its table needs beside its cells, see `config.asked`; None: of a training, or of an older sweep."""


@dataclass(frozen=True)
class SweepEntry:
    """A sweep in MLflow, without its cells."""

    run_id: str
    name: str
    """Of its MLflow experiment."""
    scale: Scale
    status: str
    """MLflow's status of its run: RUNNING, FINISHED, FAILED or KILLED."""
    asked: str
    """When it was last started, in ISO format, UTC."""
    fills_table: str
    """When its inputs were last found valid, like `asked`; empty: its table is not shown."""


def sweep_entries(store: Store, name: str | None = None) -> list[SweepEntry]:
    """Return the sweeps of a store, or those of one name, the one that was last started first."""
    found = [store.client.get_experiment_by_name(name)] if name else pages(store.client.search_experiments)
    # MLflow also finds a deleted experiment by its name.
    found = [each for each in found if each and each.lifecycle_stage == "active"]
    if not found:
        return []
    search = [each.experiment_id for each in found]
    runs = pages(store.client.search_runs, search, "tags.`tadp.sweep` != ''", order_by=[f"tags.`{ASKED}` DESC"])
    return [
        SweepEntry(
            run_id=run.info.run_id,
            name=tags["tadp.experiment"],
            scale=tags["tadp.scale"],
            status=run.info.status,
            asked=tags.get(ASKED, ""),
            fills_table=tags.get(TABLE, ""),
        )
        for run in runs
        for tags in (run.data.tags,)
    ]


def newest_tables(entries: Sequence[SweepEntry]) -> list[SweepEntry]:
    """Return the sweeps that fill a table, the one whose inputs were last found valid first."""
    return sorted((each for each in entries if each.fills_table), key=lambda each: each.fills_table, reverse=True)


def first_of_each(entries: Sequence[SweepEntry]) -> list[SweepEntry]:
    """Return the first sweep of each name and scale."""
    first: dict[tuple[str, Scale], SweepEntry] = {}
    for entry in entries:
        first.setdefault((entry.name, entry.scale), entry)
    return list(first.values())


def parent(store: Store, experiment: str, scale: Scale, key: str, description: str = "") -> str:
    """Return the id of a sweep's run, with status RUNNING; the same `key` returns the same run.

    Args:
        store: MLflow.
        experiment: the MLflow experiment of the sweep, created if needed.
        scale: pocket or paper.
        key: hash of the sweep's cells.
        description: Markdown shown on the run's page.

    Raises:
        UserError: the MLflow experiment was deleted.
    """
    experiment_id, now = store.experiment_id(experiment), datetime.now(UTC).isoformat()
    wanted = f"tags.`tadp.sweep` = '{key}' and tags.`tadp.scale` = '{scale}'"
    for run in store.client.search_runs([experiment_id], wanted, max_results=1):
        store.client.update_run(run.info.run_id, status="RUNNING")
        store.client.set_tag(run.info.run_id, ASKED, now)
        return run.info.run_id
    tags = {
        ASKED: now,
        "tadp.sweep": key,
        "tadp.experiment": experiment,
        "tadp.scale": scale,
        **({NOTE: description} if description else {}),
        **provenance(),
    }
    return store.client.create_run(experiment_id, tags=tags, run_name=f"{experiment} ({scale})").info.run_id


def record_plan(
    store: Store, run_id: str, settings: str, cells: Sequence[Cell], layout: Mapping[str, Any] | None = None
) -> None:
    """Log the sweep's settings, cells and layout, so that its table can be made from MLflow alone.

    Raises:
        UserError: MLflow's artifact store does not work.
    """
    plan = {"settings": settings, "cells": [cell.model_dump(mode="json") for cell in cells]}
    plan |= {"layout": dict(layout)} if layout else {}
    try:
        store.client.log_dict(run_id, plan, PLAN)
    except StoreError as error:
        raise UserError(
            f"MLflow at {store.safe_uri} answers but does not accept files ({first_line(error)}): fix its artifact store first"
        ) from None


def show_table(store: Store, run_id: str) -> None:
    """Note that a sweep's inputs are valid: from now on its table is that of its name, until another sweep's is."""
    store.client.set_tag(run_id, TABLE, datetime.now(UTC).isoformat())


def newest_sweep(store: Store, experiment: str, scale: Scale) -> SweepRun:
    """Return the newest sweep of an experiment that fills its table.

    Args:
        store: MLflow.
        experiment: name of the sweep's MLflow experiment.
        scale: pocket or paper.

    Raises:
        UserError: the store holds no such sweep, its plan is incomplete, or other code wrote it.
    """
    found = newest_tables([each for each in sweep_entries(store, experiment) if each.scale == scale])
    if not found:
        raise UserError(
            f"MLflow at {store.safe_uri} holds no sweep of {experiment} at {scale} scale; run the sweep first, or name the "
            "store that it used (--tracking-uri or MLFLOW_TRACKING_URI)"
        )
    return read_sweep(store, found[0].run_id)


def read_sweep(store: Store, run_id: str) -> SweepRun:
    """Return the sweep of a run.

    Raises:
        UserError: its plan is incomplete, or other code wrote it.
    """
    try:
        with TemporaryDirectory() as folder:
            if (path := stored_file(store, run_id, PLAN, Path(folder))) is None:
                raise ValueError("missing")
            plan = json.loads(path.read_text())
        settings, cells = plan["settings"], plan["cells"]
        if not cells:
            raise ValueError("no cells")
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"MLflow at {store.safe_uri}, run {run_id}: the sweep's {PLAN} is incomplete ({error}); run the sweep again"
        ) from None
    return SweepRun(run_id, settings, tuple(read_cell(cell, run_id) for cell in cells), plan.get("layout"))


def attach(store: Store, run_id: str, files: Sequence[Path]) -> None:
    """Log files (table, figures) to a sweep's run; a failure is only a warning, since they are on disk."""
    for path in files:
        try:
            store.client.log_artifact(run_id, str(path))
        except StoreError as error:
            log.warning("MLflow at %s did not accept %s (%s)", store.safe_uri, path.name, first_line(error))
            return


def describe(store: Store, run_id: str, numbers: Mapping[str, float], note: str) -> None:
    """Log a sweep's numbers as metrics and its note; a failure is only a warning, since both are in its files.

    Numbers that the run has already are not logged again. Those of an earlier table that this one lacks become NaN.
    """
    now = int(time.time() * 1000)
    try:
        known = {key: as_logged(value) for key, value in store.client.get_run(run_id).data.metrics.items()}
        own = {key: value for name, value in numbers.items() if len(key := encode(name)) <= MAX_KEY_LENGTH}
        # MLflow deletes no metric.
        values = dict.fromkeys(known, math.nan) | own
        new = [key for key, value in values.items() if key not in known or not same(known[key], value)]
        changed = [Metric(key, values[key], now, 0) for key in new]
        store.client.log_batch(run_id, metrics=changed, tags=[RunTag(NOTE, clean(note))])
    except StoreError as error:
        log.warning("MLflow at %s did not accept the note (%s)", store.safe_uri, first_line(error))


def end_parent(store: Store, run_id: str, status: str) -> None:
    """End a sweep's run as FINISHED, FAILED or KILLED; a failure of the store is only a warning."""
    try:
        store.client.set_terminated(run_id, status)
    except StoreError as error:
        log.warning("MLflow at %s did not record that the sweep is %s (%s)", store.safe_uri, status, first_line(error))
