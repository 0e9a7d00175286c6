"""Shows the progress of a sweep, read from the journals of its cells."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from tadp_ray.config.cell import Cell
from tadp_ray.config.metrics import main_metric
from tadp_ray.sweep.periodic import run_periodically
from tadp_ray.training.journal import read_journal

TERMINAL_SECONDS = 1.0
LOG_SECONDS = 30.0


@dataclass(frozen=True)
class CellState:
    """The progress of one cell."""

    cell: Cell
    status: str = "waiting"
    step: int = 0
    seconds_per_step: float | None = None
    score: float | None = None
    """The task's main metric at the latest evaluation."""
    error: str | None = None

    @classmethod
    def read(cls, cell: Cell, earlier: int) -> "CellState":
        """Read a cell's state from its journal; the first `earlier` records count for steps, not for the status."""
        values: dict[str, Any] = {}
        for number, record in enumerate(read_journal(cell.folder)):
            metrics = record.get("metrics", {})
            values["step"] = record.get("step", values.get("step", 0))
            values["score"] = metrics.get(main_metric(cell.recipe.task), values.get("score"))
            values["seconds_per_step"] = metrics.get("seconds_per_step", values.get("seconds_per_step"))
            if number >= earlier:
                values["status"] = {"finished": "finished", "failed": "failed"}.get(record["type"], "training")
                values["error"] = record.get("error")
        return cls(cell, **values)

    @property
    def steps_left(self) -> int:
        """Optimizer steps left."""
        return 0 if self.status in ("finished", "failed") else self.cell.recipe.schedule.iterations - self.step


class SweepProgress:
    """Shows progress during a block: a live table in a terminal, a line every half minute in a log file."""

    def __init__(self, cells: Sequence[Cell], at_once: int, console: Console) -> None:
        self._cells, self._at_once, self._console = cells, at_once, console
        self._start = time.monotonic()
        # Records are counted, since the clock may be changed while cells train.
        self._earlier = [sum(1 for _ in read_journal(cell.folder)) for cell in cells]
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            live = self._stack.enter_context(Live(console=self._console, refresh_per_second=2, transient=True))
            self._stack.enter_context(
                run_periodically(TERMINAL_SECONDS, lambda: live.update(self._table(self.states())))
            )
        else:
            self._stack.enter_context(run_periodically(LOG_SECONDS, self._print_line))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def states(self) -> list[CellState]:
        """Return the state of every cell of this command."""
        return list(map(CellState.read, self._cells, self._earlier))

    def _print_line(self) -> None:
        self._console.print(self._line(self.states()), highlight=False, soft_wrap=True)

    def _eta(self, states: Sequence[CellState]) -> str:
        speeds = [state.seconds_per_step for state in states if state.seconds_per_step]
        if not speeds:
            return "estimating"
        # One cell cannot be split between workers.
        left = [state.steps_left for state in states]
        seconds = sum(speeds) / len(speeds) * max(sum(left) / self._at_once, max(left))
        return f"{timedelta(seconds=round(seconds))} left"

    def _line(self, states: Sequence[CellState]) -> str:
        done = sum(state.status in ("finished", "failed") for state in states)
        running = "; ".join(
            f"{s.cell.name}: step {s.step}/{s.cell.recipe.schedule.iterations}"
            + (f" {main_metric(s.cell.recipe.task)} {s.score:.4g}" if s.score else "")
            for s in states
            if s.status == "training"
        )
        elapsed = timedelta(seconds=round(time.monotonic() - self._start))
        return f"[{elapsed}] {done}/{len(states)} cells done, {self._eta(states)}" + (
            f" | {running}" if running else ""
        )

    def _table(self, states: Sequence[CellState]) -> Table:
        table = Table(title=self._line(states).partition(" | ")[0], title_justify="left", box=None, pad_edge=False)
        for name in ("cell", "state", "step", main_metric(self._cells[0].recipe.task), "s/step"):
            table.add_column(name, justify="left" if name in ("cell", "state") else "right")
        for state in states:
            table.add_row(
                state.cell.name,
                state.status,
                f"{state.step}/{state.cell.recipe.schedule.iterations}",
                f"{state.score:.4g}" if state.score is not None else "",
                f"{state.seconds_per_step:.2f}" if state.seconds_per_step else "",
            )
        return table
