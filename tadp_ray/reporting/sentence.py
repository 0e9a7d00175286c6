"""What a table's numbers say, in plain sentences that are computed from them."""

import statistics
from collections.abc import Iterator, Sequence

from tadp_ray.config.metrics import lower_is_better, metric_title
from tadp_ray.reporting.table import Table, TableEntry, shown

FEW = 6
"""Rows or columns whose means are listed one by one."""
Placed = tuple[int, int, TableEntry]
"""(row, column, what stands there)."""


def sentences(table: Table) -> Iterator[str]:
    """The best and the worst place of each metric, and the first metric's mean over each row and column; of complete places."""
    for metric in table.spec.metrics:
        placed = [
            (i, j, entry)
            for i, row in enumerate(table.entries)
            for j, entry in enumerate(row)
            if entry.metric == metric and entry.complete
        ]
        name = metric_title(metric)
        if len(placed) > 1:
            yield f"{name}: {extremes(table, placed)}"
        elif placed:
            yield f"{name}: {placed[0][2].text} at {at(table, *placed[0][:2])}, the one complete place."
        else:
            yield f"{name}: no place is complete yet."
        if metric == table.spec.metrics[0]:
            yield from averages(table, name, placed)


def at(table: Table, row: int, column: int) -> str:
    """`precision 1.0, recall 0.5`."""
    return f"{table.spec.rows.headings[row]}, {table.spec.columns.headings[column]}"


def extremes(table: Table, placed: Sequence[Placed]) -> str:
    """The best place, the worst, and how far apart they are."""
    ranked = sorted(placed, key=lambda place: place[2].mean, reverse=not lower_is_better(placed[0][2].metric))
    best, worst = ranked[0], ranked[-1]
    metric = best[2].metric
    gap = shown(metric, abs(best[2].mean - worst[2].mean))
    spreads = [entry.sd for *_, entry in placed if entry.sd is not None]
    seeds = f"; the seeds of one place spread by {shown(metric, max(spreads))} at most" if spreads else ""
    return (
        f"best at {at(table, *best[:2])} ({best[2].text}), worst at {at(table, *worst[:2])} ({worst[2].text}), "
        f"{gap} apart{seeds}."
    )


def averages(table: Table, name: str, placed: Sequence[Placed]) -> Iterator[str]:
    """The mean of every row and of every column, where all of them have the same complete places."""
    for side, own, other in ((table.spec.rows, 0, 1), (table.spec.columns, 1, 0)):
        groups = {k: [place for place in placed if place[own] == k] for k in sorted({place[own] for place in placed})}
        across = [{place[other] for place in group} for group in groups.values()]
        if 1 < len(groups) <= FEW and len(across[0]) > 1 and all(places == across[0] for places in across):
            means = {side.names[k]: statistics.fmean(place[2].mean for place in group) for k, group in groups.items()}
            yield (
                f"{name}, mean of each {side.label}: "
                + ", ".join(f"{name} {shown(placed[0][2].metric, mean)}" for name, mean in means.items())
                + "."
            )
