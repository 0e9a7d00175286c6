"""Describes the MLflow run of a journal. All of it follows from one record, which lies beside the journal."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tadp_ray.config.cell import Cell
from tadp_ray.config.values import text_of
from tadp_ray.files import write_json
from tadp_ray.layout import CELL
from tadp_ray.tracking.names import encode

PARENT = "mlflow.parentRunId"
"""MLflow's tag for the parent run."""
TAG_LENGTH = 5000
"""In characters, which every MLflow store accepts."""
AXIS = "tadp.axis."
"""Prefix of the tags with a cell's value on each axis, by which MLflow's page groups cells."""


@dataclass(frozen=True)
class RunSpec:
    """A journal's folder, and the name, parameters and tags of its MLflow run."""

    folder: Path
    file: str
    """Name of the record's file, in the folder and among the run's artifacts."""
    fingerprint: str
    experiment: str
    """MLflow experiment of the run."""
    name: str
    params: Mapping[str, Any]
    """Nested settings, which become MLflow parameters."""
    tags: Mapping[str, str]
    """Without those of the fingerprint and the provenance."""
    record: Mapping[str, Any]
    """Everything that determines the journal's numbers; the other fields follow from it."""
    short_name: str = ""
    """On MLflow's page, whose columns are narrow; empty: `name`."""

    def save(self) -> None:
        """Write the record beside the journal atomically, so that any command can send the journal later."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / self.file, self.record)


def cell_run_spec(parent: str, cell: Cell) -> RunSpec:
    """Return the run of a cell, a child of the sweep's run."""
    axes, record = json.dumps(cell.axes), cell.model_dump(mode="json")
    return RunSpec(
        folder=cell.folder,
        file=CELL,
        fingerprint=cell.fingerprint,
        experiment=cell.experiment,
        name=cell.name,
        params=record["recipe"],
        tags={
            PARENT: parent,
            "tadp.group": cell.group,
            "tadp.experiment": cell.experiment,
            "tadp.scale": cell.scale,
            "tadp.seed": str(cell.seed),
            # A cut text would not be JSON; the record holds all axes.
            **({"tadp.axes": axes} if len(axes) <= TAG_LENGTH else {}),
            **{encode(AXIS + key): text_of(value)[:TAG_LENGTH] for key, value in cell.axes.items()},
            "tadp.oracle": json.dumps(cell.uses_ground_truth),
            # Further evaluations alone, by name.
            **({"tadp.oracle.evaluations": json.dumps(found)} if (found := cell.oracle_evaluations) else {}),
            **{f"tadp.digest.{name}": digest for name, digest in cell.digests.items()},
        },
        record={**record, PARENT: parent},
        short_name=cell.short_name,
    )


def read_cell_run_spec(record: Mapping[str, Any], folder: Path) -> RunSpec:
    """Read the run of a cell from the record in its folder.

    Raises:
        ValueError: the record is incomplete, or other code wrote it.
    """
    cell, parent = Cell.of_record(record), record.get(PARENT)
    if not isinstance(parent, str):
        raise ValueError(f"no {PARENT}")
    return replace(cell_run_spec(parent, cell), folder=folder)
