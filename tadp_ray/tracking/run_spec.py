"""What MLflow is told of a journal beside its numbers; kept next to it, so that anybody can send the journal later."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tadp_ray.config.cell import Cell
from tadp_ray.files import write_json

RUN = "run.json"
"""File beside a journal that holds its `RunSpec`."""
SWEEP_LOCK = "sweep.lock"
"""What a sweep holds while it uses a storage folder."""
PARENT = "mlflow.parentRunId"
"""MLflow's tag of the run above a run."""
TAG_LENGTH = 5000
"""Characters of a tag's value that MLflow takes for sure."""


@dataclass(frozen=True)
class RunSpec:
    """A journal, and what MLflow is told beside its numbers."""

    folder: Path
    fingerprint: str
    experiment: str
    """MLflow's experiment that bears the run."""
    name: str
    params: Mapping[str, Any]
    """Nested settings; they become MLflow's parameters."""
    tags: Mapping[str, str]
    """The fingerprint's and the provenance's apart."""
    card: Mapping[str, Any]
    """Everything that the journal's numbers come from, kept as a file of the run."""

    def save(self) -> None:
        """Write this beside the journal, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / RUN, {key: value for key, value in asdict(self).items() if key != "folder"})

    @classmethod
    def load(cls, folder: Path) -> "RunSpec | None":
        """What `save` wrote beside a journal, None if nobody has begun to send it."""
        path = folder / RUN
        return cls(folder=folder, **json.loads(path.read_text())) if path.is_file() else None


def cell_run_spec(parent: str, cell: Cell) -> RunSpec:
    """A cell's journal, whose run is a child of the sweep's run."""
    axes = json.dumps(cell.axes)
    return RunSpec(
        folder=cell.folder,
        fingerprint=cell.fingerprint,
        experiment=cell.experiment,
        name=cell.name,
        params=cell.recipe.model_dump(mode="json"),
        tags={
            PARENT: parent,
            "tadp.group": cell.group,
            "tadp.experiment": cell.experiment,
            "tadp.scale": cell.scale,
            "tadp.seed": str(cell.seed),
            # Half of them would be none; the card holds them all.
            **({"tadp.axes": axes} if len(axes) <= TAG_LENGTH else {}),
            "tadp.oracle": json.dumps(cell.uses_ground_truth),
            **{f"tadp.digest.{name}": digest for name, digest in cell.digests.items()},
        },
        card=cell.model_dump(mode="json"),
    )
