"""Queries MLflow for cells: finished ones by fingerprint, and all cells of an experiment."""

import json
import math
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlflow.entities import Run, ViewType
from mlflow.store.entities import PagedList
from pydantic import ValidationError

from tadp_ray.config.cell import Cell
from tadp_ray.config.vocabulary import State
from tadp_ray.errors import UserError
from tadp_ray.layout import CELL, PER_IMAGE, TRACEBACK, WORKER_LOG
from tadp_ray.tasks.per_image import PerImage, read_per_image
from tadp_ray.tracking.client import StoreError, first_line
from tadp_ray.tracking.names import decode, encode
from tadp_ray.tracking.store import Store
from tadp_ray.training.provenance import code_of, provenance
from tadp_ray.wording import pluralized

PAGE = 1000
CELLS, FINISHED = "tags.`tadp.fingerprint` != ''", "attributes.status = 'FINISHED'"
"""MLflow's filters for cells, and for runs that have finished."""
WEIGHTS = "tadp.checkpoint"
"""Tag of a finished cell's run: the path of its weights."""
Curve = Sequence[tuple[int, float]]
"""A metric's (step, value) pairs, sorted by step."""


@dataclass(frozen=True)
class CellRow:
    """A cell's run in MLflow."""

    run_id: str
    fingerprint: str
    experiment: str
    scale: str
    axes: dict[str, Any]
    """Empty if they are too long for a tag."""
    seed: int
    metrics: dict[str, float]
    """Last value of every metric by its decoded name, including infinity and NaN."""
    status: str
    """MLflow's: RUNNING, FINISHED, FAILED or KILLED."""
    error: str | None
    commit: str | None
    """Git commit of the code, with `+dirty` if it had uncommitted changes; several if the training was resumed with other
    code."""
    code: dict[str, str]
    """Versions that can change results but are not in the fingerprint; see `provenance.code_of`."""
    start_time: float
    end_time: float | None
    """Unix seconds."""
    params: dict[str, str]
    hardware: str
    """CPU and GPUs of the machine that started the sweep."""

    @property
    def state(self) -> State:
        """The cell's state by this run. MLflow calls a training that was killed with its sweep running."""
        states: dict[str, State] = {"FINISHED": "finished", "RUNNING": "training", "FAILED": "failed"}
        return states.get(self.status, "interrupted")

    @classmethod
    def of(cls, run: Run) -> "CellRow":
        """Convert an MLflow run of a cell."""
        info, tags = run.info, run.data.tags
        return cls(
            run_id=info.run_id,
            fingerprint=tags["tadp.fingerprint"],
            experiment=tags["tadp.experiment"],
            scale=tags["tadp.scale"],
            axes=json.loads(tags.get("tadp.axes", "{}")),
            seed=int(tags["tadp.seed"]),
            metrics={decode(key): as_logged(value) for key, value in run.data.metrics.items()},
            status=info.status,
            error=tags.get("tadp.error"),
            commit=tags.get("tadp.commit"),
            code=code_of(tags),
            start_time=info.start_time / 1000,
            end_time=info.end_time / 1000 if info.end_time else None,
            params=dict(run.data.params),
            hardware=", ".join(tags[key] for key in ("tadp.hardware.cpu", "tadp.hardware.gpus") if key in tags),
        )


def as_logged(value: float) -> float:
    """Return a metric's true value, since MLflow's databases store infinity as the largest float."""
    return math.copysign(math.inf, value) if abs(value) >= sys.float_info.max else value


def finished(store: Store, fingerprints: Sequence[str], *, strict: bool = False) -> dict[str, CellRow]:
    """Return finished cells by fingerprint, from every experiment in the store.

    If a cell has several runs, those of the current code come first, then the one that ended last.

    Args:
        store: MLflow.
        fingerprints: of the cells.
        strict: leave out cells that only other code or other versions have trained.
    """
    here, found, rows = code_of(provenance()), finished_runs(store, fingerprints), {}
    for fingerprint in fingerprints:
        own = [row for row in found[fingerprint] if row.code == here]
        if chosen := own or ([] if strict else found[fingerprint]):
            rows[fingerprint] = chosen[0]
    return rows


def finished_runs(store: Store, fingerprints: Iterable[str]) -> dict[str, list[CellRow]]:
    """Return the finished runs of each fingerprint, the one that ended last first.

    One paged query reads the finished cells of the store, newest first, until every cell has a run of the current code: no
    other run comes before the newest of these. A run of a page costs less than half as much as a search of its own. So once
    twice as many runs of other cells were read as cells are still sought, each of these is searched by itself: few cells in a
    large store.
    """
    here = code_of(provenance())
    found: dict[str, list[CellRow]] = {fingerprint: [] for fingerprint in fingerprints}
    sought, others = set(found), 0
    if not sought or not (experiments := experiment_ids(store)):
        return found
    search = partial(whole_pages, store.client.search_runs, experiments, order_by=["attributes.end_time DESC"])
    for page in search(f"{CELLS} and {FINISHED}", size=min(PAGE, 2 * len(sought))):
        for run in page:
            if (fingerprint := run.data.tags["tadp.fingerprint"]) not in found:
                others += 1
                continue
            row = CellRow.of(run)
            found[fingerprint].append(row)
            if row.code == here:
                sought.discard(fingerprint)
        if not page.token:
            return found
        if others >= 2 * len(sought):
            break
    for fingerprint in sought:
        runs = chain.from_iterable(search(f"tags.`tadp.fingerprint` = '{fingerprint}' and {FINISHED}"))
        found[fingerprint] = [CellRow.of(run) for run in runs]
    return found


def other_code(rows: Iterable[CellRow]) -> list[str]:
    """Return a line for each other version of the code that has trained some of the cells."""
    here, commit = code_of(provenance()), provenance().get("tadp.commit")
    others = Counter((row.commit, tuple(sorted(row.code.items()))) for row in rows if row.code != here)
    lines = []
    for (other, code), count in others.most_common():
        there = dict(code)
        differing = [name for name in {**here, **there} if here.get(name) != there.get(name)]
        named = ", ".join(
            f"{name} {there.get(name, 'unknown')} (here {here.get(name, 'unknown')})" for name in differing
        )
        if "code" in differing and other and commit:
            named += f"; commit {short(other)} (here {short(commit)})"
        lines.append(f"{count} {'cell was' if count == 1 else 'cells were'} trained by {named}")
    return lines


def short(commit: str) -> str:
    """Shorten each commit hash in a tag; keep `+dirty`."""
    return re.sub(r"\b([0-9a-f]{9})[0-9a-f]{31}\b", r"\1", commit)


def require_finished(store: Store, cells: Sequence[Cell]) -> dict[str, CellRow]:
    """Return cells that have just been trained, by fingerprint.

    Raises:
        UserError: MLflow does not hold one of them any more.
    """
    found = finished(store, [cell.fingerprint for cell in cells])
    if lost := [cell for cell in cells if cell.fingerprint not in found]:
        raise UserError(
            f"MLflow at {store.safe_uri} no longer holds {pluralized(len(lost), 'finished cells')}, such as {lost[0].name}: "
            "their runs or their experiment were deleted; run this again, which sends their journals and trains nothing twice"
        )
    return found


def rows(
    store: Store,
    experiment: str,
    *,
    scale: str | None = None,
    finished: bool | None = None,
    newest: int | None = None,
) -> list[CellRow]:
    """Return the cells of an experiment, oldest first; of several runs of one journal, the one that lasted longest comes last.

    Args:
        store: MLflow.
        experiment: name of the experiment.
        scale: of the cells; None: whatever their scale, since the cells of one sweep may have several.
        finished: only those that are, or that are not; None: all.
        newest: only so many that started last; None: all.
    """
    found = store.client.get_experiment_by_name(experiment)
    if found is None:
        return []
    wanted = CELLS + (f" and tags.`tadp.scale` = '{scale}'" if scale else "")
    if finished is not None:
        wanted += f" and attributes.status {'=' if finished else '!='} 'FINISHED'"
    order = ["attributes.start_time DESC"]
    runs = pages(store.client.search_runs, [found.experiment_id], wanted, ViewType.ACTIVE_ONLY, order_by=order)
    # A sweep with other settings continues the journal of an interrupted one in a run of its own, with the same start.
    return sorted(map(CellRow.of, islice(runs, newest)), key=lambda row: (row.start_time, row.end_time or math.inf))


def trained_cell(store: Store, run_id: str) -> tuple[Cell, Path]:
    """Return the cell of a finished run and the path of its weights.

    Raises:
        UserError: there is no such run, or it is not that of a finished cell.
    """
    try:
        run = store.client.get_run(run_id)
    except StoreError as error:
        raise UserError(f"MLflow at {store.safe_uri} holds no run {run_id} ({first_line(error)})") from None
    if run.info.status != "FINISHED" or WEIGHTS not in run.data.tags:
        name = run.info.run_name
        raise UserError(
            f"run {run_id} ({name}, {run.info.status}) is not a finished cell; the runs of a table are in its table.csv"
        )
    with TemporaryDirectory() as folder:
        record = json.loads(Path(store.client.download_artifacts(run_id, CELL, folder)).read_text())
    return read_cell(record, run_id), Path(run.data.tags[WEIGHTS])


def read_cell(values: Mapping[str, Any], run_id: str) -> Cell:
    """Return a cell from its record in MLflow.

    Raises:
        UserError: it was written by code, here or in a plug-in, whose recipes had other keys.
    """
    try:
        return Cell.of_record(values)
    except ValidationError as error:
        keys = ", ".join(".".join(map(str, problem["loc"])) for problem in error.errors())
        raise UserError(
            f"run {run_id}: written by other code, whose recipes have other keys ({keys}); install the same version and plug-ins"
        ) from None


def history(store: Store, run_id: str, metric: str) -> Curve:
    """Return a metric's curve."""
    points = store.client.get_metric_history(run_id, encode(metric))
    return sorted((point.step, as_logged(point.value)) for point in points)


def per_image(store: Store, row: CellRow) -> PerImage | None:
    """Return a finished cell's per-image results; None if its run has none.

    Raises:
        UserError: the file is incomplete, or belongs to another training.
    """
    with TemporaryDirectory() as folder:
        path = stored_file(store, row.run_id, PER_IMAGE, Path(folder))
        return read_per_image(path, row.fingerprint) if path else None


def stored_file(store: Store, run_id: str, name: str, folder: Path) -> Path | None:
    """Download a file of a run into a folder; return its path, None if the run has no such file."""
    if name not in {file.path for file in store.client.list_artifacts(run_id)}:
        return None
    return Path(store.client.download_artifacts(run_id, name, str(folder)))


def evidence(store: Store, fingerprint: str) -> dict[str, str]:
    """Return the traceback and the output of processes that the newest failed run of a cell holds, by the names of the files."""
    wanted = f"tags.`tadp.fingerprint` = '{fingerprint}' and attributes.status = 'FAILED'"
    run = next(search_all(store, wanted, "attributes.start_time DESC", size=1), None)
    if run is None:
        return {}
    with TemporaryDirectory() as folder:
        paths = {name: stored_file(store, run.info.run_id, name, Path(folder)) for name in (TRACEBACK, WORKER_LOG)}
        return {name: path.read_text(encoding="utf-8", errors="replace") for name, path in paths.items() if path}


def experiment_ids(store: Store) -> list[str]:
    """Return the ids of all experiments of a store."""
    return [found.experiment_id for found in pages(store.client.search_experiments)]


def search_all(store: Store, wanted: str, *order: str, size: int = PAGE) -> Iterator[Run]:
    """Yield the runs in all experiments of a store that a filter of MLflow's selects, read `size` at a time."""
    # Not every server takes an empty list.
    if experiments := experiment_ids(store):
        yield from pages(store.client.search_runs, experiments, wanted, size=size, order_by=list(order))


def pages(search: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
    """Yield all results of one of MLflow's paginated searches."""
    return chain.from_iterable(whole_pages(search, *args, **kwargs))


def whole_pages(search: Any, *args: Any, size: int = PAGE, **kwargs: Any) -> Iterator[PagedList]:
    """Yield the pages, of at most `size` results each, of one of MLflow's paginated searches."""
    token = None
    while True:
        page = search(*args, max_results=size, page_token=token, **kwargs)
        yield page
        token = page.token
        if not token:
            return
