"""What MLflow is told of a journal beside its numbers: all of it follows from one record, which is kept next to the journal."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tadp_ray.config.cell import Cell
from tadp_ray.files import write_json
from tadp_ray.layout import CELL

PARENT = "mlflow.parentRunId"
"""MLflow's tag of the run above a run."""
TAG_LENGTH = 5000
"""Characters of a tag's value that MLflow takes for sure."""


@dataclass(frozen=True)
class RunSpec:
    """A journal, and what MLflow is told beside its numbers."""

    folder: Path
    file: str
    """Name of the record, in the folder and in the run."""
    fingerprint: str
    experiment: str
    """MLflow's experiment that bears the run."""
    name: str
    params: Mapping[str, Any]
    """Nested settings; they become MLflow's parameters."""
    tags: Mapping[str, str]
    """The fingerprint's and the provenance's apart."""
    record: Mapping[str, Any]
    """Everything that the journal's numbers come from; all else here follows from it."""

    def save(self) -> None:
        """Write the record beside the journal, whole or not at all, so that anybody can send the journal later."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / self.file, self.record)


def cell_run_spec(parent: str, cell: Cell) -> RunSpec:
    """A cell's journal, whose run is a child of the sweep's run."""
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
            # Half of them would be none; the record holds them all.
            **({"tadp.axes": axes} if len(axes) <= TAG_LENGTH else {}),
            "tadp.oracle": json.dumps(cell.uses_ground_truth),
            **{f"tadp.digest.{name}": digest for name, digest in cell.digests.items()},
        },
        record={**record, PARENT: parent},
    )


def read_cell_run_spec(record: Mapping[str, Any], folder: Path) -> RunSpec:
    """What `cell_run_spec` made, out of the record that lies in a folder.

    Raises:
        ValueError: it is not whole, or made by other code.
    """
    cell, parent = Cell.of_record(record), record.get(PARENT)
    if not isinstance(parent, str):
        raise ValueError(f"no {PARENT}")
    return replace(cell_run_spec(parent, cell), folder=folder)
