"""An experiment's table: what every place of it holds, and everything a reader must know about how it came to be."""

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tadp_ray.config.cell import Cell
from tadp_ray.config.claims import TableClaim
from tadp_ray.config.known import FIGURES
from tadp_ray.config.schema import Experiment, FigureConfig, Sweep
from tadp_ray.config.vocabulary import LOWER_IS_BETTER, METRIC, Scale
from tadp_ray.errors import UserError
from tadp_ray.tracking.query import CellRow, short
from tadp_ray.training.provenance import THEN

METRIC_NAMES = {
    "miou": "mIoU (%)",
    "best_miou": "best mIoU (%)",
    "miou/multi_scale": "mIoU (%), several scales",
    "accuracy": "pixel accuracy (%)",
    "rmse": "RMSE (m)",
    "best_rmse": "best RMSE (m)",
    "abs_rel": "relative error",
    "ap50": "AP at IoU 0.5 (%)",
    "best_ap50": "best AP at IoU 0.5 (%)",
    "ap": "AP (%)",
}


@dataclass(frozen=True)
class Side:
    """The rows or the columns of a table: one or several axes of the sweep, in all combinations of their values."""

    keys: tuple[str, ...]
    """Dotted recipe keys."""
    values: tuple[tuple[Any, ...], ...]
    """One value per key."""

    @classmethod
    def of(cls, keys: Sequence[str], axes: Mapping[str, Sequence[Any]]) -> "Side":
        """All combinations, last axis fastest."""
        return cls(tuple(keys), tuple(itertools.product(*(axes[key] for key in keys))))

    @property
    def label(self) -> str:
        """`precision` for caption.precision."""
        return ", ".join(key.rpartition(".")[2] for key in self.keys)

    @property
    def names(self) -> tuple[str, ...]:
        """What stands at the head of each row or column."""
        return tuple(", ".join(str(value) for value in values) for values in self.values)

    @property
    def headings(self) -> tuple[str, ...]:
        """`recall 0.5`; the values alone where there are several axes, or where they are names themselves."""
        named = self.keys[1:] or "." not in self.keys[0]
        return self.names if named else tuple(f"{self.label} {name}" for name in self.names)

    def place(self, cell: Cell, metric: str) -> int:
        """Which row or column a metric of a cell belongs to.

        Raises:
            UserError: none, since the experiment's file or its sweep's was changed after the cell was planned.
        """
        chosen = {METRIC: metric, **cell.axes}
        values = tuple(chosen.get(key) for key in self.keys)
        if values not in self.values:
            named = ", ".join(f"{key}={value}" for key, value in zip(self.keys, values, strict=True))
            raise UserError(
                f"the sweep that was run has cells of {named}, which the files no longer name; run it again"
            )
        return self.values.index(values)


@dataclass(frozen=True)
class TableSpec:
    """What is asked: rows, columns, a metric, and what the paper printed."""

    title: str
    metrics: tuple[str, ...]
    """Several lie along one of the sides."""
    rows: Side
    columns: Side
    published: tuple[tuple[float | None, ...], ...] | None = None
    """One row per row value, one number per column value."""
    source: str = ""
    """Where the published numbers stand."""
    scale: Scale = "pocket"
    settings: str = ""
    """The recipe, and what was changed in it by hand."""
    figure: FigureConfig | None = None
    """What is drawn of the results by image."""
    claims: tuple[TableClaim, ...] = ()
    """What the numbers are held against."""

    @classmethod
    def of(cls, experiment: Experiment, sweep: Sweep, scale: Scale, settings: str = "") -> "TableSpec":
        """The table an experiment file asks for, filled by cells of the given settings."""
        asked, published = experiment.table, experiment.table.published
        sides = asked.sides(sweep.values)
        rows, columns = Side.of(asked.rows, sides), Side.of(asked.columns, sides)
        return cls(
            title=asked.title,
            metrics=asked.metrics,
            rows=rows,
            columns=columns,
            published=published.values if published else None,
            source=published.source if published else "",
            scale=scale,
            settings=settings,
            figure=experiment.figure,
            claims=experiment.claims,
        )

    @property
    def curve(self) -> str:
        """The first metric as it was measured during training: the best one is a point of the plain one's curve."""
        return self.metrics[0].removeprefix("best_")

    @property
    def metric_label(self) -> str:
        """The first metric as people write it, with its unit; the others are named where they stand."""
        return METRIC_NAMES.get(self.metrics[0], self.metrics[0])

    def metric_at(self, row: int, column: int) -> str:
        """The metric that stands at a place."""
        chosen = dict(zip(self.rows.keys, self.rows.values[row], strict=True))
        chosen |= dict(zip(self.columns.keys, self.columns.values[column], strict=True))
        return chosen.get(METRIC, self.metrics[0])


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
        ours = f"Ours: {self.spec.scale} scale{settings}, {self.spec.metric_label} at the {moment}"
        ours += f", mean ± sample standard deviation over {seeds} seeds." if seeds > 1 else ", one seed."
        if any(entry.best for entry in entries):
            each = " of each metric" if self.spec.metrics[1:] else ""
            ways = {falling(metric) for metric in self.spec.metrics}
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
    entries = [[entry_at(spec, cells, rows, i, j) for j in places[1]] for i in places[0]]
    best = {}
    for metric in spec.metrics:
        means = [entry.mean for row in entries for entry in row if entry.complete and entry.metric == metric]
        best[metric] = (min if falling(metric) else max)(means) if len(means) > 1 else None
    marked = tuple(
        tuple(replace(entry, best=entry.complete and equal(entry, best[entry.metric])) for entry in row)
        for row in entries
    )
    notes = (*incomplete(spec, cells, rows, failed or {}), *mixed_code(cells, rows), *agreement(marked))
    return Table(spec, marked, notes)


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


def decimals(metric: str) -> int:
    """How many a metric is shown with: figures of depth are small and printed with three, percents with two."""
    return 3 if metric.removeprefix("best_").partition("/")[0] in FIGURES["depth"] else 2


def shown(metric: str, value: float) -> str:
    """A metric's value as tables show it."""
    return f"{value:.{decimals(metric)}f}"


def falling(metric: str) -> bool:
    """Whether less of it is better."""
    return metric.removeprefix("best_").partition("/")[0] in LOWER_IS_BETTER


def entry_at(spec: TableSpec, cells: Sequence[Cell], rows: Mapping[str, CellRow], i: int, j: int) -> TableEntry:
    """The place at row `i` and column `j`."""
    metric = spec.metric_at(i, j)
    here = [cell for cell in cells if (spec.rows.place(cell, metric), spec.columns.place(cell, metric)) == (i, j)]
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
            of = f", {METRIC_NAMES.get(metric, metric)}" if len(pairs) > 1 else ""
            notes.append(
                f"Spearman rank correlation of ours with the published numbers{of}: {value:.2f} over {len(own)} places"
            )
    return notes


def rank_correlation(pairs: Sequence[tuple[float, float]]) -> float:
    """Spearman's, of which neither side may be constant; equal values share the mean of their ranks."""
    # It takes a second to load, and many tables ask for none.
    from scipy.stats import spearmanr

    return float(spearmanr(pairs).statistic)
