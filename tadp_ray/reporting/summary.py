"""Summarizes a table's numbers in sentences."""

import itertools
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping

from tadp_ray.config.metrics import lower_is_better, metric_title
from tadp_ray.config.table import Side
from tadp_ray.config.vocabulary import MIN_COUNT
from tadp_ray.reporting.resampling import PERCENT
from tadp_ray.reporting.seeds import gap_of, tied
from tadp_ray.reporting.table import Ranking, Table, TableEntry, format_value, same_trainings
from tadp_ray.wording import first_few

MAX_LISTED = 6
"""Rows or columns whose means are listed."""


def sentences(table: Table) -> Iterator[str]:
    """Yield each metric's best and worst complete entry, and of the first metric what is told apart, and means of each side.

    Of equal entries it says only that they are equal.
    """
    for metric in table.spec.metrics:
        name, ranking = metric_title(metric), table.ranked(metric)
        if alike(ranking):
            yield f"{name}: all {len(ranking)} complete entries are {format_value(metric, ranking[0][1].mean)}."
            continue
        if len(ranking) > 1:
            yield f"{name}: {extremes(table, ranking)}"
        elif ranking:
            yield f"{name}: {ranking[0][1].text} at {table.heading(ranking[0][0])}, the only complete entry."
        else:
            yield f"{name}: no entry is complete yet."
        if metric == table.spec.metrics[0]:
            yield from judged(table, ranking)
            yield from averages(table, name, ranking)


def alike(ranking: Ranking) -> bool:
    """Whether there are several entries and tables show the same value for all, so that none is best or worst."""
    return len(ranking) > 1 and len({format_value(entry.metric, entry.mean) for _, entry in ranking}) == 1


def extremes(table: Table, ranking: Ranking) -> str:
    """Return the best and the worst entry and the gap between them."""
    (best_place, best), (worst_place, worst) = ranking[0], ranking[-1]
    metric = best.metric
    gap = format_value(metric, abs(best.mean - worst.mean))
    spreads = [entry.sd for _, entry in ranking if entry.sd is not None]
    seeds = f"; the standard deviation over seeds is at most {format_value(metric, max(spreads))}" if spreads else ""
    return (
        f"the best entry is {table.heading(best_place)} ({best.text}), the worst is {table.heading(worst_place)} ({worst.text}), "
        f"and the difference is {gap}{seeds}."
    )


def averages(table: Table, name: str, ranking: Ranking) -> Iterator[str]:
    """Yield the mean of every row and of every column, if all entries are complete."""
    for side, own in ((table.spec.rows, 0), (table.spec.columns, 1)):
        lines = whole_lines(table, own, ranking)
        across = [line.keys() for line in lines.values()]
        if 1 < len(lines) <= MAX_LISTED and len(across[0]) > 1 and all(places == across[0] for places in across):
            means = {side.names[k]: mean_of(lines[k]) for k in sorted(lines)}
            yield (
                f"{name}, mean of each {side.label}: "
                + ", ".join(f"{name} {format_value(ranking[0][1].metric, mean)}" for name, mean in means.items())
                + "."
            )


def judged(table: Table, ranking: Ranking) -> Iterator[str]:
    """Yield what the seeds tell apart: the best entry from the others, and the best row and column from the worst."""
    if len(ranking) < 2:
        return
    seeds = min(entry.n for _, entry in ranking)
    if seeds < MIN_COUNT:
        trained = "one seed" if seeds == 1 else f"{seeds} seeds"
        yield f"With {trained}, there are no verdicts, since differences may be chance; run at least {MIN_COUNT} seeds."
        return
    (_, best), *others = ranking
    like = [table.heading(place) for place, entry in others if not same_trainings(entry, best) and tied(best, entry)]
    how = f"({PERCENT} %, paired over {seeds} seeds)"
    if like:
        yield f"The best entry cannot be told apart {how} from {first_few(like, MAX_LISTED, '; ')}."
    else:
        several = any(same_trainings(entry, best) for _, entry in others)
        yield f"The best entry can be told apart from every other {'training run' if several else 'complete entry'} {how}."
    for side, own in ((table.spec.rows, 0), (table.spec.columns, 1)):
        yield from side_effect(table, side, own, ranking)


def side_effect(table: Table, side: Side, own: int, ranking: Ranking) -> Iterator[str]:
    """Yield how far the best row (or column) lies from the worst in the mean over the other side, if all are whole."""
    metric, whole = ranking[0][1].metric, whole_lines(table, own, ranking)
    if len(whole) < 2:
        return
    rising = sorted(whole, key=lambda k: (mean_of(whole[k]), k))
    worst, best = (rising[-1], rising[0]) if lower_is_better(metric) else (rising[0], rising[-1])
    pairs = [(entry.by_seed, whole[worst][place].by_seed) for place, entry in whole[best].items()]
    seeds = set.intersection(*(set(high) & set(low) for high, low in pairs))
    gap = gap_of([statistics.fmean(high[seed] - low[seed] for high, low in pairs) for seed in sorted(seeds)])
    if gap is None:
        return
    mean, low, high = (format_value(metric, value) for value in (gap.mean, gap.low, gap.high))
    over = f", averaged over {len(pairs)} {'columns' if own == 0 else 'rows'}" if len(pairs) > 1 else ""
    verdict = "" if gap.told_apart else "; they cannot be told apart"
    if len(whole) > 2:
        verdict += f" (the interval does not account for selecting the best and the worst of {len(whole)})"
    yield f"From {side.headings[worst]} to {side.headings[best]}: {mean} [{low}, {high}]{over}{verdict}."


def whole_lines(table: Table, own: int, ranking: Ranking) -> dict[int, dict[int, TableEntry]]:
    """Return the entries of a metric by row and column (`own` 0), or by column and row (1); none if an entry is incomplete."""
    if not ranking:
        return {}
    lines: dict[int, dict[int, TableEntry]] = {}
    for place, entry in ranking:
        lines.setdefault(place[own], {})[place[1 - own]] = entry
    metric, spec = ranking[0][1].metric, table.spec
    places = itertools.product(range(len(spec.rows.names)), range(len(spec.columns.names)))
    # Other metrics have rows or columns of their own.
    expected = Counter(place[own] for place in places if spec.metric_at(*place) == metric)
    return lines if all(len(lines.get(k, ())) == count for k, count in expected.items()) else {}


def mean_of(line: Mapping[int, TableEntry]) -> float:
    """Return the mean over the entries of a row or column."""
    return statistics.fmean(entry.mean for entry in line.values())
