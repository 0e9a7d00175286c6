"""What happened to one cell: its journal in sentences, its traceback and the output of its processes."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tadp_ray.config.cell import Cell
from tadp_ray.config.metrics import main_metric
from tadp_ray.layout import TRACEBACK, WORKER_LOG
from tadp_ray.sweep.logs import newest_log_folder, worker_log
from tadp_ray.sweep.stopped import is_stopped
from tadp_ray.tracking.query import evidence
from tadp_ray.tracking.store import Store
from tadp_ray.training.journal import read_journal


@dataclass(frozen=True)
class CellLog:
    """What happened to a cell."""

    cell: Cell
    records: tuple[dict[str, Any], ...]
    """Of its journal; empty if its folder is not on this machine, or it was never started."""
    traceback: str | None
    """The whole traceback of the bug or crash that ended it."""
    output: str | None
    """Standard output and error of its processes, kept when it fails."""
    stopped: bool
    """Whether a search has stopped it early."""

    def lines(self) -> Iterator[str]:
        """Yield the log as lines."""
        yield f"{self.cell.name}, {self.cell.fingerprint[:16]}, {self.cell.folder}"
        if not self.records:
            yield "no journal of it is on this machine: it was not started here"
        yield from map(self._sentence, filter(self._tells, self.records))
        if self.stopped:
            yield "stopped early by a search"
        for title, text in (("traceback", self.traceback), ("output of its processes", self.output)):
            if text:
                yield f"--- {title}"
                yield text.rstrip()

    def _tells(self, record: dict[str, Any]) -> bool:
        """Whether a record is more than a step: a start, an evaluation, a checkpoint, an end."""
        return (
            record["type"] != "metrics"
            or main_metric(self.cell.recipe.task) in record["metrics"]
            or "checkpoint" in record
        )

    def _sentence(self, record: dict[str, Any]) -> str:
        steps, metric = self.cell.recipe.schedule.iterations, main_metric(self.cell.recipe.task)
        score = record.get("metrics", {}).get(metric)
        at = f"step {record['step']}/{steps}" if "step" in record else ""
        told = [
            at,
            f"{metric} {score:.4g}" if score is not None else "",
            "checkpoint" if "checkpoint" in record else "",
        ]
        what = {
            "started": f"started by process {record.get('pid', 'unknown')}",
            "failed": f"failed: {record.get('error')}",
            "finished": "finished",
        }.get(record["type"], "")
        moment = datetime.fromtimestamp(record.get("time", 0)).strftime("%Y-%m-%d %H:%M:%S")
        return f"{moment}  {', '.join(text for text in (what, *told) if text)}"

    def record(self) -> dict[str, Any]:
        """Return the log as JSON values."""
        return {
            "name": self.cell.name,
            "fingerprint": self.cell.fingerprint,
            "folder": str(self.cell.folder),
            "journal": list(self.records),
            "traceback": self.traceback,
            "output": self.output,
            "stopped_early": self.stopped,
        }


def cell_log(store: Store, cell: Cell) -> CellLog:
    """Return what happened to a cell: from its folder or, if that is not here, of its newest failed run in MLflow."""
    found = {name: read_if_there(cell.folder / name) for name in (TRACEBACK, WORKER_LOG)}
    records = tuple(read_journal(cell.folder))
    if not records:
        found = evidence(store, cell.fingerprint)
    elif found[WORKER_LOG] is None:
        found[WORKER_LOG] = worker_log(cell.folder, newest_log_folder()) or None
    return CellLog(cell, records, found.get(TRACEBACK), found.get(WORKER_LOG), is_stopped(cell))


def read_if_there(file: Path) -> str | None:
    """Return the text of a file; None if there is none."""
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else None
