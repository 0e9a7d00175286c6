"""An experiment's table: the value of every entry, and how it compares with others and with the published one."""

import itertools
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from tadp_ray.config.cell import Cell
from tadp_ray.config.metrics import base_metric, best_first, lower_is_better, metric_title
from tadp_ray.config.table import TableSpec
from tadp_ray.config.vocabulary import METRIC
from tadp_ray.errors import UserError
from tadp_ray.reporting.notes import code_note, cut_note, incomplete_notes, machine_notes, scale_note
from tadp_ray.reporting.resampling import PERCENT, excludes_zero
from tadp_ray.reporting.seeds import tied
from tadp_ray.tracking.query import CellRow

T = TypeVar("T")
TIED = "\N{DAGGER}"
"""Marks an entry that is not told apart from the best one."""
Place = tuple[int, int]
"""(row index, column index) of an entry."""


@dataclass(frozen=True)
class EntryDifference:
    """An entry minus the baseline row's entry in the same column."""

    mean: float
    """Over the seeds that both rows have."""
    sd: float | None = None
    """Sample standard deviation of the differences within a seed; None for one seed."""
    interval: tuple[float, float] | None = None
    """Its ends; None without per-image results."""
    decimals: int = 2
    """To show."""

    @property
    def significant(self) -> bool:
        """Whether the interval excludes zero."""
        return self.interval is not None and excludes_zero(*self.interval)

    @property
    def text(self) -> str:
        """Such as `+3.20 ± 0.40 [+1.10, +5.30]*`, with a star if the interval excludes zero."""
        form = f"z.{self.decimals}f"
        spread = "" if self.sd is None else f" ± {self.sd:{form}}"
        span = "" if self.interval is None else " [{:+{form}}, {:+{form}}]".format(*self.interval, form=form)
        return f"{self.mean:+{form}}{spread}{span}{'*' if self.significant else ''}"


@dataclass(frozen=True)
class TableEntry:
    """One entry of the table: a metric over seeds."""

    row: str
    column: str
    metric: str
    values: tuple[float, ...]
    """The metric of every finished seed, in the order of the seeds."""
    num_seeds: int
    """How many seeds it should have."""
    published: float | None
    run_ids: tuple[str, ...]
    best: bool = False
    """Whether it has the best mean of the complete entries."""
    tied: bool = False
    """Whether its seeds do not tell it apart from the best one; false with fewer than MIN_COUNT common seeds."""
    seeds: tuple[int, ...] = ()
    """Of the values."""
    difference: EntryDifference | None = None
    """To the baseline row; None in that row, without a baseline, and if either value is missing."""
    oracle: bool = False
    """Whether its captions use the ground truth."""

    @property
    def n(self) -> int:
        """The number of finished seeds."""
        return len(self.values)

    @property
    def by_seed(self) -> dict[int, float]:
        """The metric by seed."""
        return dict(zip(self.seeds, self.values, strict=True))

    @property
    def finite(self) -> bool:
        """Whether there are values and all are finite: NaN and infinity are never averaged."""
        return bool(self.values) and all(math.isfinite(value) for value in self.values)

    @property
    def mean(self) -> float:
        """Mean over seeds; NaN without values or if one is not finite."""
        return statistics.fmean(self.values) if self.finite else math.nan

    @property
    def sd(self) -> float | None:
        """Sample standard deviation over seeds (n - 1); None for one seed."""
        return statistics.stdev(self.values) if self.finite and self.n > 1 else None

    @property
    def complete(self) -> bool:
        """Whether every seed has finished with a finite value."""
        return self.finite and self.n == self.num_seeds

    @property
    def text(self) -> str:
        """Such as `51.20 ± 0.31 (2/3)`; the count is shown only if seeds are missing."""
        if not self.values:
            return "–"
        if not self.finite:
            text = "not finite"
        else:
            spread = "" if self.sd is None else f" ± {format_value(self.metric, self.sd)}"
            text = f"{format_value(self.metric, self.mean)}{spread}"
        return text if self.n == self.num_seeds else f"{text} ({self.n}/{self.num_seeds})"

    @property
    def marked_text(self) -> str:
        """The text, with TIED if it is not told apart from the best entry."""
        return f"{self.text} {TIED}" if self.tied else self.text

    @property
    def published_text(self) -> str:
        """The published number, or a dash."""
        return "–" if self.published is None else format_value(self.metric, self.published)


Ranking = list[tuple[Place, TableEntry]]
"""The complete entries of a metric with their places, the best one first."""


@dataclass(frozen=True)
class Table:
    """A table with the values of its finished cells."""

    spec: TableSpec
    entries: tuple[tuple[TableEntry, ...], ...]
    """Row by row."""
    notes: tuple[str, ...]
    """On missing and failed cells, several versions of the code, and the rank correlation with the published numbers."""
    cells: tuple[Cell, ...] = ()
    """Every cell, finished or not."""
    unfinished: int = 0
    """How many of them are not finished; entries of one training share a cell."""
    baseline: int | None = None
    """The row that the others are compared with."""

    @property
    def baseline_name(self) -> str | None:
        """The name of the row that the others are compared with."""
        return None if self.baseline is None else self.spec.rows.names[self.baseline]

    @property
    def published_columns(self) -> tuple[bool, ...]:
        """Whether each column has a published number."""
        return tuple(any(entry.published is not None for entry in column) for column in zip(*self.entries, strict=True))

    @property
    def published_pattern(self) -> bool:
        """Whether there are published numbers, of which a heat map shows the pattern: one alone has none."""
        return sum(entry.published is not None for row in self.entries for entry in row) > 1

    def ranked(self, metric: str) -> Ranking:
        """Return the ranking of a metric; of equal means the one read first comes first."""
        located = [
            ((i, j), entry)
            for i, row in enumerate(self.entries)
            for j, entry in enumerate(row)
            if entry.metric == metric and entry.complete
        ]
        order = best_first(metric)
        return sorted(located, key=lambda one: order(one[1].mean))

    def heading(self, place: Place) -> str:
        """Return the headings of an entry, such as `precision 1.0, recall 0.5`; of its row alone if columns are metrics."""
        row, column = self.spec.rows.headings[place[0]], self.spec.columns.headings[place[1]]
        return row if self.spec.columns.keys == (METRIC,) else f"{row}, {column}"

    @property
    def caption(self) -> str:
        """Says what our numbers and the published ones are."""
        entries = [entry for row in self.entries for entry in row]
        seeds = max(entry.num_seeds for entry in entries)
        settings = f", {self.spec.settings}" if self.spec.settings else ""
        last = [metric_title(metric) for metric in self.spec.metrics if not metric.startswith("best_")]
        best = [metric_title(metric) for metric in self.spec.metrics if metric.startswith("best_")]
        moments = {"last step": last, "best evaluation": best}
        named = " and ".join(f"{', '.join(titles)} at the {moment}" for moment, titles in moments.items() if titles)
        ours = f"Ours: {self.spec.scale} scale{settings}, {named}"
        ours += f", mean ± sample standard deviation over {seeds} seeds." if seeds > 1 else ", one seed."
        if any(entry.best for entry in entries):
            each = " of each metric" if self.spec.metrics[1:] else ""
            ways = {lower_is_better(metric) for metric in self.spec.metrics}
            bold = "best" if len(ways) > 1 else "lowest" if ways == {True} else "highest"
            ours += f" Bold: the {bold} of ours{each}."
        if any(entry.tied for entry in entries):
            ours += f" {TIED}: not told apart from it at {PERCENT} %, paired over seeds."
        ours += oracle_note(self.entries)
        return f"{ours} Published: {self.spec.source}." if self.spec.published else ours


def build_table(
    spec: TableSpec, cells: Sequence[Cell], rows: Mapping[str, CellRow], failed: Mapping[str, str] | None = None
) -> Table:
    """Fill a table with finished cells.

    Args:
        spec: the layout of the table.
        cells: every cell of the table, finished or not.
        rows: finished cells by fingerprint.
        failed: errors of failed cells by fingerprint.
    """
    places = range(len(spec.rows.values)), range(len(spec.columns.values))
    placed: dict[tuple[int, int], list[Cell]] = {}
    for cell, metric in itertools.product(cells, spec.metrics):
        placed.setdefault(spec.place(cell, metric), []).append(cell)
    entries = tuple(tuple(make_entry(spec, placed.get((i, j), ()), rows, i, j) for j in places[1]) for i in places[0])
    notes = (
        *incomplete_notes(spec, cells, rows, failed or {}),
        *scale_note(cells),
        *cut_note(cells, rows),
        *code_note(cells, rows),
        *machine_notes(cells, rows),
        *rank_correlation_notes(entries),
    )
    unfinished = {cell.fingerprint for cell in cells} - rows.keys()
    table = Table(spec, entries, notes, tuple(cells), len(unfinished))
    best = {metric: ranking[0][1] for metric in spec.metrics if len(ranking := table.ranked(metric)) > 1}
    return replace(table, entries=tuple(tuple(marked(own, best.get(own.metric)) for own in row) for row in entries))


def metric_label(spec: TableSpec) -> str:
    """Return the display name and unit of the table's first metric."""
    return metric_title(spec.metrics[0])


def oracle_note(entries: Sequence[Sequence[TableEntry]]) -> str:
    """Return a sentence on the entries whose captions use the ground truth; empty if there are none."""
    oracles = [entry for row in entries for entry in row if entry.oracle]
    if not oracles:
        return ""
    rows = [row[0].row for row in entries if all(entry.oracle for entry in row)]
    columns = [column[0].column for column in zip(*entries, strict=True) if all(entry.oracle for entry in column)]
    if len(rows) == len(entries):
        where = "all entries"
    elif len(oracles) == len(rows) * len(entries[0]) + len(columns) * (len(entries) - len(rows)):
        where = "; ".join([*(f"row {row}" for row in rows), *(f"column {column}" for column in columns)])
    else:
        where = "; ".join(f"row {entry.row}, column {entry.column}" for entry in oracles)
    return f" Oracle captions (made from the ground truth) are used in {where}."


def marked(entry: TableEntry, leader: TableEntry | None) -> TableEntry:
    """Return an entry with its marks: the best after rounding, or not told apart from the best.

    Args:
        entry: of a table.
        leader: the complete entry with the best mean; None if there is no other.
    """
    if leader is None or not entry.complete:
        return entry
    if format_value(entry.metric, entry.mean) == format_value(entry.metric, leader.mean):
        return replace(entry, best=True)
    return replace(entry, tied=tied(leader, entry))


def format_value(metric: str, value: float) -> str:
    """Return a metric's value as tables show it."""
    return f"{value:z.{base_metric(metric).decimals}f}"


def make_entry(spec: TableSpec, here: Sequence[Cell], rows: Mapping[str, CellRow], i: int, j: int) -> TableEntry:
    """Return the entry at row `i` and column `j`, made from its cells."""
    metric = spec.metric_at(i, j)
    ready = [cell for cell in sorted(here, key=lambda cell: cell.seed) if cell.fingerprint in rows]
    done = [rows[cell.fingerprint] for cell in ready]
    return TableEntry(
        row=spec.rows.names[i],
        column=spec.columns.names[j],
        metric=metric,
        values=tuple(metric_of(row, metric) for row in done),
        num_seeds=len(here),
        published=spec.published[i][j] if spec.published else None,
        run_ids=tuple(row.run_id for row in done),
        seeds=tuple(cell.seed for cell in ready),
        oracle=any(cell.is_oracle(metric) for cell in here),
    )


def metric_of(row: CellRow, metric: str) -> float:
    """Return a finished cell's metric.

    Raises:
        UserError: the cell has no such metric.
    """
    if metric not in row.metrics:
        raise UserError(f"table: metrics: run {row.run_id} has no {metric!r}; it has {', '.join(sorted(row.metrics))}")
    return row.metrics[metric]


def same_trainings(one: TableEntry, other: TableEntry) -> bool:
    """Return whether two entries are one number of the same trainings, such as those of VPD A32 and VPD(R)."""
    return one.metric == other.metric and one.run_ids == other.run_ids != ()


def distinct(located: Iterable[T], entry_of: Callable[[T], TableEntry]) -> list[T]:
    """Return what has an entry, without that whose entry is of the same trainings as an earlier one."""
    kept: list[T] = []
    for one in located:
        if not any(same_trainings(entry_of(one), entry_of(other)) for other in kept):
            kept.append(one)
    return kept


def rank_correlation_notes(entries: Sequence[Sequence[TableEntry]]) -> list[str]:
    """Return notes on each metric's rank correlation with the published numbers, over at least three complete entries."""
    pairs: dict[str, list[tuple[float, float]]] = {}
    complete = (entry for row in entries for entry in row if entry.complete)
    for entry in distinct(complete, lambda own: own):
        if entry.published is not None:
            pairs.setdefault(entry.metric, []).append((entry.mean, entry.published))
    notes = []
    for metric, own in pairs.items():
        ours, theirs = zip(*own, strict=True)
        if len(own) > 2 and len(set(ours)) > 1 and len(set(theirs)) > 1:
            value = rank_correlation(own)
            of = f", {metric_title(metric)}" if len(pairs) > 1 else ""
            notes.append(
                f"Spearman rank correlation of ours with the published numbers{of}: {value:.2f} over {len(own)} entries"
            )
    return notes


def rank_correlation(pairs: Sequence[tuple[float, float]]) -> float:
    """Return Spearman's rank correlation of pairs; neither side may be constant. Ties get the mean of their ranks."""
    # Importing it takes a second, and many tables do not need it.
    from scipy.stats import spearmanr

    return float(spearmanr(pairs).statistic)
