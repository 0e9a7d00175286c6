"""Shows the progress of a sweep, read from the journals of its cells."""

import statistics
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tadp_ray.config.cell import Cell
from tadp_ray.config.metrics import metric_title
from tadp_ray.layout import JOURNAL
from tadp_ray.sweep.cell_state import ENDED, CellState
from tadp_ray.sweep.periodic import run_periodically
from tadp_ray.sweep.stopped import is_stopped
from tadp_ray.training.journal import read_journal

TERMINAL_SECONDS = 1.0
"""Between two looks at the journals."""
LOG_SECONDS = 30.0
"""Between two lines on what trains, without a terminal."""
COLOURS = {"loading": "cyan", None: "cyan", "evaluating": "magenta"}
"""Of a training cell, by its phase."""
ROOM = 6
"""Lines of the terminal beside those of training cells: head, column names, counts of what is not shown, a prompt."""
WIDEST, NUMBERS = 100, 38
"""Columns of the widest table, and those of its numbers."""
FAILURES = 3
"""Failed cells that are named; the others are counted."""


class SweepProgress:
    """Shows progress during a block: a live view in a terminal, plain lines elsewhere."""

    def __init__(self, cells: Sequence[Cell], at_once: int, console: Console) -> None:
        self._cells, self._at_once, self._console = cells, at_once, console
        self._start = self._said = time.monotonic()
        # Records are counted, since the clock may be changed while cells train.
        self._earlier = [sum(1 for _ in read_journal(cell.folder)) for cell in cells]
        self._ended: set[str] = set()
        self._read: dict[str, tuple[tuple[int, bool], CellState]] = {}
        """The size of each cell's journal when it was read and whether a search had stopped it early, and its state."""
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            live = self._stack.enter_context(Live(console=self._console, refresh_per_second=2, transient=True))
            self._stack.enter_context(run_periodically(TERMINAL_SECONDS, lambda: live.update(self.view(self.states()))))
        else:
            # Cells that end together with the sweep.
            self._stack.callback(self._print_news)
            self._stack.enter_context(run_periodically(TERMINAL_SECONDS, self._print_news))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def states(self) -> list[CellState]:
        """Return the state of every cell of this command."""
        return list(map(self._state, self._cells, self._earlier))

    def _state(self, cell: Cell, earlier: int) -> CellState:
        """Read a cell's state if its files have changed: a sweep may have thousands that have not."""
        journal = cell.folder / JOURNAL
        files = journal.stat().st_size if journal.is_file() else 0, is_stopped(cell)
        known = self._read.get(cell.fingerprint)
        if known is None or known[0] != files:
            known = self._read[cell.fingerprint] = files, CellState.read(cell, earlier)
        return known[1]

    def view(self, states: Sequence[CellState]) -> Group:
        """Return the live view: the head, then a line for each training cell as far as the terminal has lines, then failures."""
        training = [state for state in states if state.status == "training"]
        failed = [state for state in states if state.status == "failed"]
        lines = max(1, self._console.height - ROOM - min(len(failed), FAILURES))
        parts: list[Text | Table] = [self._head(states)]
        if training:
            parts.append(self._table(training[:lines], final_seconds(states), evaluation_seconds(states)))
        if (hidden := len(training) - lines) > 0:
            parts.append(Text(f"and {hidden} more cells in training", style="dim"))
        for state in failed[:FAILURES]:
            text = Text.assemble(("failed ", "bold red"), f"{state.cell.name}: {state.reason}")
            text.no_wrap, text.overflow = True, "ellipsis"
            parts.append(text)
        return Group(*parts)

    def _head(self, states: Sequence[CellState]) -> Text:
        """Return `[0:05:10] 3/9 finished, 1 failed, 2 training, 3 waiting; about 0:07:20 left`, coloured."""
        count = Counter(state.status or "waiting" for state in states)
        elapsed = timedelta(seconds=round(time.monotonic() - self._start))
        head = Text.assemble((f"[{elapsed}] ", "dim"), (f"{count['finished']}/{len(states)} finished", "green"))
        for name, colour in (("stopped early", ""), ("failed", "bold red"), ("training", "cyan"), ("waiting", "dim")):
            if count[name]:
                head.append(", ").append(f"{count[name]} {name}", colour)
        return head.append(f"; {self._eta(states)}")

    def _table(self, training: Sequence[CellState], last: float | None, each: float | None) -> Table:
        """Return a line for each training cell, with short names where a terminal is narrow."""
        width = min(self._console.width, WIDEST)
        narrow = max(len(state.cell.name) for state in training) > width - NUMBERS
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", width=width)
        table.add_column("cell", ratio=1, no_wrap=True, overflow="ellipsis")
        for name in ("step", "loss", metric_title(training[0].metric).removesuffix(" (%)"), "left"):
            table.add_column(name, justify="right", no_wrap=True)
        for state in training:
            table.add_row(
                Text(state.cell.short_name if narrow else state.cell.name),
                Text(f"{state.step}/{state.steps}", style=COLOURS[state.phase]),
                number(state.loss, ".3f"),
                number(state.score, ".4g"),
                left_text(state, last, each),
            )
        return table

    def _eta(self, states: Sequence[CellState]) -> str:
        """Return how long all cells take, with their evaluations as far as these were measured."""
        speeds = [state.seconds_per_step for state in states if state.seconds_per_step]
        if not speeds:
            return "time left unknown"
        last, each, speed = final_seconds(states), evaluation_seconds(states), statistics.fmean(speeds)
        left = [state.seconds_left(speed, each or 0, last or 0) for state in states]
        # One cell cannot be split between workers.
        seconds = max(sum(left) / self._at_once, max(left))
        return f"about {clock(seconds)} left" + ("" if last is not None or not seconds else " + evaluation")

    def news(self, states: Sequence[CellState]) -> list[str]:
        """Return a line for each cell that has ended since the last call, and every half minute one on what trains."""
        ended = [state for state in states if state.status in ENDED and state.cell.fingerprint not in self._ended]
        self._ended |= {state.cell.fingerprint for state in ended}
        lines = [f"{state.status} {state.cell.name}: {result(state)}" for state in ended]
        if time.monotonic() - self._said >= LOG_SECONDS:
            self._said = time.monotonic()
            lines.append(self.line(states))
        return lines

    def line(self, states: Sequence[CellState]) -> str:
        """Return the head, and the training cells with step, loss and score, in one line."""
        training = "; ".join(map(training_text, (state for state in states if state.status == "training")))
        return self._head(states).plain + (f" | {training}" if training else "")

    def _print_news(self) -> None:
        for line in self.news(self.states()):
            self._console.print(line, highlight=False, soft_wrap=True)


def final_seconds(states: Sequence[CellState]) -> float | None:
    """Return the median time from the last step of a cell to its end: the last evaluation, pictures, weights; None if unknown."""
    known = [state.final_seconds for state in states if state.final_seconds is not None]
    return statistics.median(known) if known else evaluation_seconds(states)


def evaluation_seconds(states: Sequence[CellState]) -> float | None:
    """Return the median time of an evaluation between steps; None if none was measured."""
    known = [state.evaluation_seconds for state in states if state.evaluation_seconds is not None]
    return statistics.median(known) if known else None


def left_text(state: CellState, last: float | None, each: float | None) -> Text:
    """Return what is left of a training cell: its time, or its phase."""
    if state.phase:
        return Text(state.phase, style=COLOURS[state.phase])
    seconds = state.seconds_left(0, each or 0, last or 0)
    return Text(clock(seconds) + ("" if last is not None else " + eval"))


def training_text(state: CellState) -> str:
    """Return `NAME: step 120/240 loss 0.709 miou 23.1` of a training cell."""
    if state.phase == "loading":
        return f"{state.cell.name}: loading"
    words = [f"step {state.step}/{state.steps}"]
    words += [f"loss {state.loss:.3f}"] if state.loss is not None else []
    words += [f"{state.metric} {state.score:.4g}"] if state.score is not None else []
    return f"{state.cell.name}: {' '.join(words)}" + (", evaluating" if state.phase == "evaluating" else "")


def result(state: CellState) -> str:
    """Return what an ended cell has reached, or why it failed."""
    if state.status == "failed":
        return state.reason
    return "" if state.score is None else f"{state.metric} {state.score:.4g}"


def number(value: float | None, form: str) -> str:
    """Format a number; nothing without one."""
    return "" if value is None else f"{value:{form}}"


def clock(seconds: float) -> str:
    """Format seconds as h:mm:ss."""
    return str(timedelta(seconds=round(seconds)))
