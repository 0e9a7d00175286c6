"""The state of one cell of a running sweep, read from its journal."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tadp_ray.config.cell import Cell
from tadp_ray.config.metrics import main_metric
from tadp_ray.config.vocabulary import State
from tadp_ray.sweep.stopped import is_stopped
from tadp_ray.training.journal import read_journal

ENDED = ("finished", "failed", "stopped early")
RECENT = 5
"""Reports whose speeds are averaged."""


@dataclass
class CellState:
    """The progress of one cell. Times are measured in this command alone."""

    cell: Cell
    status: State | None = None
    """None: its journal says nothing yet, or nothing of this command."""
    phase: Literal["loading", "evaluating"] | None = None
    """What a training cell does before and between its steps. None: steps."""
    step: int = 0
    loss: float | None = None
    score: float | None = None
    """The task's main metric at the latest evaluation."""
    error: str | None = None
    """Of a failed cell."""
    final_seconds: float | None = None
    """Time from the last step to the end of a finished cell: evaluations, pictures, weights."""
    _speeds: list[float] = field(default_factory=list)
    _evaluations: list[float] = field(default_factory=list)
    _loss_time: float | None = None

    @classmethod
    def read(cls, cell: Cell, earlier: int = 0) -> "CellState":
        """Read a cell's state; the first `earlier` records of its journal are of other commands."""
        state = cls(cell)
        for number, record in enumerate(read_journal(cell.folder)):
            state._add_values(record)
            if number >= earlier:
                state._add_status(record)
        if state.status == "training" and is_stopped(cell):
            state.status, state.phase = "stopped early", None
        return state

    @property
    def metric(self) -> str:
        """The task's main metric."""
        return main_metric(self.cell.recipe.task)

    @property
    def steps(self) -> int:
        """Optimizer steps in total."""
        return self.cell.recipe.schedule.iterations

    @property
    def reason(self) -> str:
        """The first line of a failed cell's error."""
        return (self.error or "").strip().partition("\n")[0]

    @property
    def seconds_per_step(self) -> float | None:
        """Mean of the latest reports; None before the first one."""
        return statistics.fmean(self._speeds[-RECENT:]) if self._speeds else None

    @property
    def evaluation_seconds(self) -> float | None:
        """Median time of an evaluation before the last step; None before the first one."""
        return statistics.median(self._evaluations) if self._evaluations else None

    def seconds_left(self, seconds_per_step: float, evaluation: float, final: float) -> float:
        """Return the time to the end of the cell.

        Args:
            seconds_per_step: where the cell has no speed of its own yet.
            evaluation: seconds of an evaluation before the last step.
            final: seconds from the last step to the end.
        """
        if self.status in ENDED:
            return 0.0
        interval = self.cell.recipe.evaluation.interval
        evaluations = max(0, (self.steps - 1) // interval - self.step // interval)
        steps = (self.steps - self.step) * (self.seconds_per_step or seconds_per_step)
        return steps + evaluations * evaluation + final

    def _add_values(self, record: Mapping[str, Any]) -> None:
        metrics = record.get("metrics", {})
        self.step = record.get("step", self.step)
        self.loss = metrics.get("loss", self.loss)
        self.score = metrics.get(self.metric, self.score)

    def _add_status(self, record: Mapping[str, Any]) -> None:
        kind, metrics, now = record["type"], record.get("metrics", {}), record.get("time", 0)
        since = None if self._loss_time is None else now - self._loss_time
        if kind == "started":
            self.status, self.phase, self.error, self._loss_time = "training", "loading", None, None
        elif kind == "finished":
            self.status, self.phase, self.final_seconds = "finished", None, since
        elif kind == "failed":
            self.status, self.phase, self.error = "failed", None, record.get("error")
        elif self.metric in metrics:
            # At the last step further evaluations, pictures and weights follow.
            if self.step < self.steps:
                self.status, self.phase = "training", None
                self._evaluations += [] if since is None else [since]
        elif "seconds_per_step" in metrics:
            self._loss_time = now
            self._speeds.append(metrics["seconds_per_step"])
            due = self.step == self.steps or self.step % self.cell.recipe.evaluation.interval == 0
            self.status, self.phase = "training", "evaluating" if due else None
