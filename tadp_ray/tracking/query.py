"""What MLflow knows of cells: the finished ones of any sweep, and all of one experiment."""

import json
import math
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlflow.entities import Run, ViewType
from pydantic import ValidationError

from tadp_ray.config.cell import Cell
from tadp_ray.errors import UserError
from tadp_ray.layout import CELL, PER_IMAGE
from tadp_ray.tasks.per_image import PerImage, read_per_image
from tadp_ray.tracking.client import StoreError, first_line
from tadp_ray.tracking.names import decode, encode
from tadp_ray.tracking.store import Store
from tadp_ray.training.provenance import code_of, provenance

PAGE = 1000
WEIGHTS = "tadp.checkpoint"
"""Tag of a finished cell's run: the file that holds its weights."""


@dataclass(frozen=True)
class CellRow:
    """One cell as MLflow holds it."""

    run_id: str
    fingerprint: str
    experiment: str
    scale: str
    axes: dict[str, Any]
    """Empty where they are too long for a tag."""
    seed: int
    metrics: dict[str, float]
    """Last value of every metric by its true name; infinite and NaN where training was."""
    status: str
    """RUNNING, FINISHED, FAILED or KILLED."""
    error: str | None
    commit: str | None
    """Git commit of the code, `+dirty` if it was changed; of a training that several went on with, each."""
    code: dict[str, str]
    """What can change a number and stands in no fingerprint: see `provenance.code_of`."""
    start_time: float
    end_time: float | None
    """Unix seconds."""
    params: dict[str, str]
    hardware: str
    """Processor and GPUs of the machine that the sweep was started on."""

    @classmethod
    def of(cls, run: Run) -> "CellRow":
        """The row of an MLflow run that a sender made."""
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
    """A metric's true value: MLflow's databases keep the largest float where infinity was logged."""
    return math.copysign(math.inf, value) if abs(value) >= sys.float_info.max else value


def finished(store: Store, fingerprints: Sequence[str], *, strict: bool = False) -> dict[str, CellRow]:
    """Finished cells by fingerprint, from every experiment in the store.

    Of several those that the code which runs now has trained come first, then those that ended last.

    Args:
        store: where.
        fingerprints: of the cells.
        strict: leave out cells that only other code, or other versions of what trains, have trained.
    """
    experiments, here = [found.experiment_id for found in pages(store.client.search_experiments)], code_of(provenance())
    rows = {}
    for fingerprint in fingerprints:
        wanted = f"tags.`tadp.fingerprint` = '{fingerprint}' and attributes.status = 'FINISHED'"
        newest = ["attributes.end_time DESC"]
        runs = store.client.search_runs(experiments, wanted, max_results=PAGE, order_by=newest)
        found = [CellRow.of(run) for run in runs]
        own = [row for row in found if row.code == here]
        if chosen := own or ([] if strict else found):
            rows[fingerprint] = chosen[0]
    return rows


def other_code(rows: Iterable[CellRow]) -> list[str]:
    """How many cells were trained by what other code, and with what other versions, than run now; a line each."""
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
    """The first characters of each commit in a tag, `+dirty` kept."""
    return re.sub(r"\b([0-9a-f]{9})[0-9a-f]{31}\b", r"\1", commit)


def held(store: Store, cells: Sequence[Cell]) -> dict[str, CellRow]:
    """Cells that have just been trained, by fingerprint.

    Raises:
        UserError: MLflow has lost one meanwhile.
    """
    found = finished(store, [cell.fingerprint for cell in cells])
    if lost := [cell for cell in cells if cell.fingerprint not in found]:
        raise UserError(
            f"MLflow at {store.shown} does not hold {len(lost)} finished cell(s) any more, such as {lost[0].name}: their runs "
            "or their experiment were deleted there; run this again, which sends their journals and trains nothing twice"
        )
    return found


def rows(store: Store, experiment: str, scale: str) -> list[CellRow]:
    """Every cell of one experiment at one scale, whatever became of it, oldest first."""
    found = store.client.get_experiment_by_name(experiment)
    if found is None:
        return []
    wanted = f"tags.`tadp.scale` = '{scale}' and tags.`tadp.fingerprint` != ''"
    order = ["attributes.start_time ASC"]
    runs = pages(store.client.search_runs, [found.experiment_id], wanted, ViewType.ACTIVE_ONLY, order_by=order)
    return [CellRow.of(run) for run in runs]


def trained_cell(store: Store, run_id: str) -> tuple[Cell, Path]:
    """The cell of a finished run, and the file that holds its weights.

    Raises:
        UserError: there is no such run, or it is no finished cell's.
    """
    try:
        run = store.client.get_run(run_id)
    except StoreError as error:
        raise UserError(f"MLflow at {store.shown} holds no run {run_id} ({first_line(error)})") from None
    if run.info.status != "FINISHED" or WEIGHTS not in run.data.tags:
        name = run.info.run_name
        raise UserError(
            f"run {run_id} ({name}, {run.info.status}) is no finished cell; table.csv names those of a table"
        )
    with TemporaryDirectory() as folder:
        record = json.loads(Path(store.client.download_artifacts(run_id, CELL, folder)).read_text())
    return read_cell(record, run_id), Path(run.data.tags[WEIGHTS])


def read_cell(values: Mapping[str, Any], run_id: str) -> Cell:
    """A cell out of what MLflow keeps of it.

    Raises:
        UserError: it was made by code whose recipes had other keys.
    """
    try:
        return Cell.of_record(values)
    except ValidationError as error:
        keys = ", ".join(".".join(map(str, problem["loc"])) for problem in error.errors())
        raise UserError(f"run {run_id}: made by other code, whose recipes this code does not read ({keys})") from None


def history(store: Store, run_id: str, metric: str) -> list[tuple[int, float]]:
    """A metric's (step, value) over training, by step."""
    points = store.client.get_metric_history(run_id, encode(metric))
    return sorted((point.step, as_logged(point.value)) for point in points)


def per_image(store: Store, run_id: str) -> PerImage | None:
    """What each image adds to a finished cell's score; None for cells from before that was kept.

    Raises:
        UserError: the file is torn, or of another training.
    """
    if PER_IMAGE not in {file.path for file in store.client.list_artifacts(run_id)}:
        return None
    with TemporaryDirectory() as folder:
        fingerprint = store.client.get_run(run_id).data.tags["tadp.fingerprint"]
        return read_per_image(Path(store.client.download_artifacts(run_id, PER_IMAGE, folder)), fingerprint)


def pages(search: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
    """All results of one of MLflow's searches, page after page."""
    token = None
    while True:
        page = search(*args, max_results=PAGE, page_token=token, **kwargs)
        yield from page
        token = page.token
        if not token:
            return
