"""Summarizes a table's numbers in sentences."""

import itertools
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence

from tadp_ray.config.metrics import lower_is_better, metric_title
from tadp_ray.config.table import Side
from tadp_ray.config.vocabulary import METRIC, MIN_COUNT
from tadp_ray.reporting.resampling import PERCENT
from tadp_ray.reporting.seeds import gap_of, paired_gap
from tadp_ray.reporting.table import Table, TableEntry, format_value

MAX_LISTED = 6
"""Rows or columns whose means are listed."""
LocatedEntry = tuple[tuple[int, int], TableEntry]
"""((row index, column index), entry)."""


def sentences(table: Table) -> Iterator[str]:
    """Yield each metric's best and worst complete entry, and of the first metric what is told apart, and means of each side."""
    for metric in table.spec.metrics:
        located = [
            ((i, j), entry)
            for i, row in enumerate(table.entries)
            for j, entry in enumerate(row)
            if entry.metric == metric and entry.complete
        ]
        name = metric_title(metric)
        if len(located) > 1:
            yield f"{name}: {extremes(table, located)}"
        elif located:
            yield f"{name}: {located[0][1].text} at {headings(table, *located[0][0])}, the only complete entry."
        else:
            yield f"{name}: no entry is complete yet."
        if metric == table.spec.metrics[0]:
            yield from judged(table, located)
            yield from averages(table, name, located)


def headings(table: Table, row: int, column: int) -> str:
    """Return the headings of an entry, such as `precision 1.0, recall 0.5`; of its row alone if columns are metrics."""
    if table.spec.columns.keys == (METRIC,):
        return table.spec.rows.headings[row]
    return f"{table.spec.rows.headings[row]}, {table.spec.columns.headings[column]}"


def extremes(table: Table, located: Sequence[LocatedEntry]) -> str:
    """Return the best and the worst entry and the gap between them."""
    metric = located[0][1].metric
    ranked = sorted(located, key=lambda one: one[1].mean, reverse=not lower_is_better(metric))
    (best_place, best), (worst_place, worst) = ranked[0], ranked[-1]
    gap = format_value(metric, abs(best.mean - worst.mean))
    spreads = [entry.sd for _, entry in located if entry.sd is not None]
    seeds = f"; standard deviation over seeds at most {format_value(metric, max(spreads))}" if spreads else ""
    return (
        f"best at {headings(table, *best_place)} ({best.text}), worst at {headings(table, *worst_place)} ({worst.text}), "
        f"{gap} apart{seeds}."
    )


def averages(table: Table, name: str, located: Sequence[LocatedEntry]) -> Iterator[str]:
    """Yield the mean of every row and of every column, if they all have the same complete entries."""
    for side, own, other in ((table.spec.rows, 0, 1), (table.spec.columns, 1, 0)):
        groups: dict[int, list[LocatedEntry]] = {}
        for one in sorted(located, key=lambda one: one[0][own]):
            groups.setdefault(one[0][own], []).append(one)
        across = [{place[other] for place, _ in group} for group in groups.values()]
        if 1 < len(groups) <= MAX_LISTED and len(across[0]) > 1 and all(indices == across[0] for indices in across):
            means = {side.names[k]: statistics.fmean(entry.mean for _, entry in group) for k, group in groups.items()}
            yield (
                f"{name}, mean of each {side.label}: "
                + ", ".join(f"{name} {format_value(located[0][1].metric, mean)}" for name, mean in means.items())
                + "."
            )


def judged(table: Table, located: Sequence[LocatedEntry]) -> Iterator[str]:
    """Yield what the seeds tell apart: the best entry from the others, and the best row and column from the worst."""
    seeds = min((entry.n for _, entry in located), default=0)
    if len(located) < 2:
        return
    if seeds < MIN_COUNT:
        trained = "One seed" if seeds == 1 else f"{seeds} seeds"
        yield f"{trained}: nothing is judged, and differences may be chance; {MIN_COUNT} seeds tell more."
        return
    metric = located[0][1].metric
    (best_place, best), *others = sorted(located, key=lambda one: one[1].mean, reverse=not lower_is_better(metric))
    tied = [
        headings(table, *place) for place, entry in others if (gap := paired_gap(best, entry)) and not gap.told_apart
    ]
    how = f"at {PERCENT} %, paired over {seeds} seeds"
    if tied:
        named = "; ".join(tied[:MAX_LISTED]) + (f" and {len(tied) - MAX_LISTED} more" if len(tied) > MAX_LISTED else "")
        yield f"The best is not told apart {how}, from {named}."
    else:
        yield f"The best is told apart from every other complete entry {how}."
    for side, own in ((table.spec.rows, 0), (table.spec.columns, 1)):
        yield from side_effect(table, side, own, located)


def side_effect(table: Table, side: Side, own: int, located: Sequence[LocatedEntry]) -> Iterator[str]:
    """Yield how far the best row (or column) lies from the worst in the mean over the other side, if both are whole."""
    lines: dict[int, dict[int, TableEntry]] = {}
    for place, entry in located:
        lines.setdefault(place[own], {})[place[1 - own]] = entry
    metric, spec = located[0][1].metric, table.spec
    places = itertools.product(range(len(spec.rows.names)), range(len(spec.columns.names)))
    # Other metrics have rows or columns of their own.
    expected = Counter(place[own] for place in places if spec.metric_at(*place) == metric)
    whole = {k: line for k, line in lines.items() if len(line) == expected[k]}
    if len(whole) < 2 or len(whole) < len(expected):
        return
    ranked = sorted(whole, key=lambda k: statistics.fmean(entry.mean for entry in whole[k].values()))
    worst, best = (ranked[-1], ranked[0]) if lower_is_better(metric) else (ranked[0], ranked[-1])
    pairs = [(entry.by_seed, whole[worst][place].by_seed) for place, entry in whole[best].items()]
    seeds = set.intersection(*(set(high) & set(low) for high, low in pairs))
    gap = gap_of([statistics.fmean(high[seed] - low[seed] for high, low in pairs) for seed in sorted(seeds)])
    if gap is None:
        return
    mean, low, high = (format_value(metric, value) for value in (gap.mean, gap.low, gap.high))
    over = f", mean over {len(pairs)} {'columns' if own == 0 else 'rows'}" if len(pairs) > 1 else ""
    verdict = "" if gap.told_apart else "; they are not told apart"
    yield f"From {side.headings[worst]} to {side.headings[best]}: {mean} [{low}, {high}]{over}{verdict}."
