"""Summarizes a table's numbers in sentences."""

import statistics
from collections.abc import Iterator, Sequence

from tadp_ray.config.metrics import lower_is_better, metric_title
from tadp_ray.reporting.table import Table, TableEntry, format_value

MAX_LISTED = 6
"""Rows or columns whose means are listed."""
LocatedEntry = tuple[tuple[int, int], TableEntry]
"""((row index, column index), entry)."""


def sentences(table: Table) -> Iterator[str]:
    """Yield each metric's best and worst complete entry, and the first metric's mean over each row and column."""
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
            yield from averages(table, name, located)


def headings(table: Table, row: int, column: int) -> str:
    """Return the headings of an entry, such as `precision 1.0, recall 0.5`."""
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
