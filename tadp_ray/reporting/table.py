"""An experiment's table: what every place of it holds, and everything a reader must know about how it came to be."""

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tadp_ray.config.cell import Cell
from tadp_ray.config.metrics import base_metric, lower_is_better, metric_title
from tadp_ray.config.table import TableSpec
from tadp_ray.errors import UserError
from tadp_ray.tracking.query import CellRow, short
from tadp_ray.training.provenance import THEN


@dataclass(frozen=True)
class Difference:
    """How far a place lies above the baseline row's in the same column."""

    mean: float
    """Over the seeds of both rows."""
    sd: float | None = None
    """Sample standard deviation of the differences within a seed; None for one seed."""
    low: float | None = None
    high: float | None = None
    """Ends of its interval; None where results are not known by image."""
    decimals: int = 2
    """That are shown."""

    @property
    def clear(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low is not None and (self.low > 0 or self.high < 0)

    @property
    def text(self) -> str:
        """`+3.20 ± 0.40 [+1.10, +5.30]*`, the mark where the interval excludes zero."""
        shown = f".{self.decimals}f"
        spread = "" if self.sd is None else f" ± {self.sd:{shown}}"
        span = "" if self.low is None else f" [{self.low:+{shown}}, {self.high:+{shown}}]"
        return f"{self.mean:+{shown}}{spread}{span}{'*' if self.clear else ''}"


@dataclass(frozen=True)
class TableEntry:
    """One place of the table."""

    row: str
    column: str
    metric: str
    values: tuple[float, ...]
    """The metric of every finished seed, in seed order."""
    asked: int
    """Seeds this place should have."""
    published: float | None
    run_ids: tuple[str, ...]
    best: bool = False
    """The best mean among the complete places."""
    seeds: tuple[int, ...] = ()
    """Of the values."""
    difference: Difference | None = None
    """To the baseline row; None in that row, where a side is missing, and where no baseline was named."""
    oracle: bool = False
    """Told names of the ground truth."""

    @property
    def n(self) -> int:
        """Finished seeds."""
        return len(self.values)

    @property
    def sound(self) -> bool:
        """Whether there are values and all are numbers: NaN and infinity are never averaged."""
        return bool(self.values) and all(math.isfinite(value) for value in self.values)

    @property
    def mean(self) -> float | None:
        """Mean over seeds; None if nothing is finished or a seed is not finite."""
        return statistics.fmean(self.values) if self.sound else None

    @property
    def sd(self) -> float | None:
        """Sample standard deviation over seeds (n - 1); None for one seed."""
        return statistics.stdev(self.values) if self.sound and self.n > 1 else None

    @property
    def complete(self) -> bool:
        """Whether every seed is there and finite."""
        return self.sound and self.n == self.asked

    @property
    def text(self) -> str:
        """`51.20 ± 0.31 (2/3)`: the count stands only where seeds are missing."""
        if not self.values:
            return "–"
        if self.mean is None:
            text = "not finite"
        else:
            text = shown(self.metric, self.mean) + (f" ± {shown(self.metric, self.sd)}" if self.sd is not None else "")
        return text if self.n == self.asked else f"{text} ({self.n}/{self.asked})"

    @property
    def published_text(self) -> str:
        """The printed number, or a dash."""
        return "–" if self.published is None else shown(self.metric, self.published)


@dataclass(frozen=True)
class Table:
    """A table filled as far as there are finished cells."""

    spec: TableSpec
    entries: tuple[tuple[TableEntry, ...], ...]
    """Row by row."""
    notes: tuple[str, ...]
    """What a reader must know: missing and failed cells, mixed code, agreement with the published order."""
    baseline: int | None = None
    """The row that the others are compared with."""

    @property
    def caption(self) -> str:
        """What the numbers are, ours and the published ones apart."""
        entries = [entry for row in self.entries for entry in row]
        seeds = max(entry.asked for entry in entries)
        settings = f", {self.spec.settings}" if self.spec.settings else ""
        moment = "best evaluation" if self.spec.metrics[0].startswith("best_") else "last step"
        ours = f"Ours: {self.spec.scale} scale{settings}, {metric_label(self.spec)} at the {moment}"
        ours += f", mean ± sample standard deviation over {seeds} seeds." if seeds > 1 else ", one seed."
        if any(entry.best for entry in entries):
            each = " of each metric" if self.spec.metrics[1:] else ""
            ways = {lower_is_better(metric) for metric in self.spec.metrics}
            best = "best" if len(ways) > 1 else "lowest" if ways == {True} else "highest"
            ours += f" Bold: the {best} of ours{each}."
        ours += oracle_told(self.entries)
        return f"{ours} Published: {self.spec.source}." if self.spec.published else ours


def build_table(
    spec: TableSpec, cells: Sequence[Cell], rows: Mapping[str, CellRow], failed: Mapping[str, str] | None = None
) -> Table:
    """Lay finished cells out.

    Args:
        spec: the table that is asked for.
        cells: every cell of the table, finished or not.
        rows: finished cells by fingerprint.
        failed: what failed cells said, by fingerprint.
    """
    places = range(len(spec.rows.values)), range(len(spec.columns.values))
    placed: dict[tuple[int, int], list[Cell]] = {}
    for cell, metric in itertools.product(cells, spec.metrics):
        placed.setdefault(spec.place(cell, metric), []).append(cell)
    entries = [[entry_at(spec, placed.get((i, j), ()), rows, i, j) for j in places[1]] for i in places[0]]
    best = {}
    for metric in spec.metrics:
        means = [entry.mean for row in entries for entry in row if entry.complete and entry.metric == metric]
        best[metric] = (min if lower_is_better(metric) else max)(means) if len(means) > 1 else None
    marked = tuple(
        tuple(replace(entry, best=entry.complete and equal(entry, best[entry.metric])) for entry in row)
        for row in entries
    )
    notes = (*incomplete(spec, cells, rows, failed or {}), *mixed_code(cells, rows), *agreement(marked))
    return Table(spec, marked, notes)


def metric_label(spec: TableSpec) -> str:
    """The first metric as people write it, with its unit; the others are named where they stand."""
    return metric_title(spec.metrics[0])


def oracle_told(entries: Sequence[Sequence[TableEntry]]) -> str:
    """A sentence on the places whose texts are made of ground-truth names; empty if there are none."""
    told = [entry for row in entries for entry in row if entry.oracle]
    if not told:
        return ""
    rows = [row[0].row for row in entries if all(entry.oracle for entry in row)]
    columns = [column[0].column for column in zip(*entries, strict=True) if all(entry.oracle for entry in column)]
    if len(rows) == len(entries):
        where = "all texts"
    elif len(told) == len(rows) * len(entries[0]):
        where = f"the texts of {'; '.join(rows)}"
    elif len(told) == len(columns) * len(entries):
        where = f"the texts of {'; '.join(columns)}"
    else:
        where = f"the texts of {'; '.join(f'{entry.row}, {entry.column}' for entry in told)}"
    return f" Oracle (names from the ground truth): {where}."


def equal(entry: TableEntry, best: float | None) -> bool:
    """Whether a place's mean cannot be told from the best one as it is shown."""
    return best is not None and shown(entry.metric, entry.mean) == shown(entry.metric, best)


def shown(metric: str, value: float) -> str:
    """A metric's value as tables show it."""
    return f"{value:.{base_metric(metric).decimals}f}"


def entry_at(spec: TableSpec, here: Sequence[Cell], rows: Mapping[str, CellRow], i: int, j: int) -> TableEntry:
    """The place at row `i` and column `j`, where these cells stand."""
    metric = spec.metric_at(i, j)
    ready = [cell for cell in sorted(here, key=lambda cell: cell.seed) if cell.fingerprint in rows]
    done = [rows[cell.fingerprint] for cell in ready]
    return TableEntry(
        row=spec.rows.names[i],
        column=spec.columns.names[j],
        metric=metric,
        values=tuple(metric_of(row, metric) for row in done),
        asked=len(here),
        published=spec.published[i][j] if spec.published else None,
        run_ids=tuple(row.run_id for row in done),
        seeds=tuple(cell.seed for cell in ready),
        oracle=any(cell.uses_ground_truth for cell in here),
    )


def metric_of(row: CellRow, metric: str) -> float:
    """A finished cell's metric.

    Raises:
        UserError: the cell has no such metric.
    """
    if metric not in row.metrics:
        raise UserError(f"table: metrics: run {row.run_id} has no {metric!r}; it has {', '.join(sorted(row.metrics))}")
    return row.metrics[metric]


def incomplete(
    spec: TableSpec, cells: Sequence[Cell], rows: Mapping[str, CellRow], failed: Mapping[str, str]
) -> list[str]:
    """Notes on cells whose number is missing or is none."""
    reasons = {fingerprint: said.strip().partition("\n")[0] for fingerprint, said in failed.items()}
    notes = [f"{cell.name} failed: {reasons[cell.fingerprint]}" for cell in cells if cell.fingerprint in reasons]
    for cell in cells:
        for metric in spec.metrics if cell.fingerprint in rows else ():
            value = rows[cell.fingerprint].metrics[metric]
            if not math.isfinite(value):
                notes.append(f"{cell.name} ended with {metric} = {value}; its place shows no mean")
    missing = [cell.name for cell in cells if cell.fingerprint not in rows and cell.fingerprint not in failed]
    if missing:
        shown = "; ".join(missing[:5]) + ("; ..." if len(missing) > 5 else "")
        notes.append(f"{len(missing)} of {len(cells)} cells are not finished: {shown}")
    return notes


def mixed_code(cells: Sequence[Cell], rows: Mapping[str, CellRow]) -> list[str]:
    """A note if the numbers do not all come from one clean commit."""
    commits = Counter(rows[cell.fingerprint].commit or "unknown" for cell in cells if cell.fingerprint in rows)
    if len(commits) < 2 and not any(THEN in commit or commit.endswith("+dirty") for commit in commits):
        return []
    named = ", ".join(f"{short(commit)} ({count})" for commit, count in commits.most_common())
    return [f"code: cells come from {named}; +dirty means changed since that commit"]


def agreement(entries: Sequence[Sequence[TableEntry]]) -> list[str]:
    """Spearman's rank correlation of each metric with the published numbers, over its complete places; needs three of them."""
    pairs: dict[str, list[tuple[float, float]]] = {}
    for entry in (entry for row in entries for entry in row if entry.complete and entry.published is not None):
        pairs.setdefault(entry.metric, []).append((entry.mean, entry.published))
    notes = []
    for metric, own in pairs.items():
        ours, theirs = zip(*own, strict=True)
        if len(own) > 2 and len(set(ours)) > 1 and len(set(theirs)) > 1:
            value = rank_correlation(own)
            of = f", {metric_title(metric)}" if len(pairs) > 1 else ""
            notes.append(
                f"Spearman rank correlation of ours with the published numbers{of}: {value:.2f} over {len(own)} places"
            )
    return notes


def rank_correlation(pairs: Sequence[tuple[float, float]]) -> float:
    """Spearman's, of which neither side may be constant; equal values share the mean of their ranks."""
    # It takes a second to load, and many tables ask for none.
    from scipy.stats import spearmanr

    return float(spearmanr(pairs).statistic)
