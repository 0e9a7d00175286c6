"""Judges claims: those of experiments against their tables, those of analyses against what they measured."""

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tadp_ray.config.claims import (
    EXPERIMENT,
    Difference,
    Measure,
    Measured,
    Places,
    Ranking,
    Rising,
    TableClaim,
    Verdict,
    within,
)
from tadp_ray.config.metrics import lower_is_better, metric_title
from tadp_ray.config.vocabulary import ENOUGH, METRIC
from tadp_ray.reporting.table import Table, TableEntry, rank_correlation

SEEDS = "run --seeds " + ",".join(map(str, range(ENOUGH)))
"""What must be done where there are too few seeds."""
SEEDS_NEEDED = f"needs {ENOUGH} seeds, e.g. seeds: [0, 1, 2] in its file"
"""The same of an analysis, whose file names them."""
Tables = Callable[[str | None], Table | None]
"""The table of the experiment that a claim names, or of its own (None); None where it was not run."""


@dataclass(frozen=True)
class Place:
    """A place of a table."""

    entry: TableEntry
    chosen: Mapping[str, object]
    """The value of every axis, and the metric."""


def judge(claim: TableClaim, tables: Tables) -> Verdict:
    """Hold an experiment's claim against the complete places of the tables that it names.

    Args:
        claim: as its file says it.
        tables: finds them.
    """
    if isinstance(claim, Ranking):
        return judge_ranking(claim, places(claim.at, tables))
    aim = aim_of(claim.least, claim.deviations)
    steps = list(steps_of(claim, tables))
    if not steps or not all(place.entry.complete for step in steps for place in step):
        return Verdict(text=claim.text, value=None, aim=aim, holds=None)
    gaps = [gaps_between(*step) for step in steps]
    if not all(gaps):
        return Verdict(text=claim.text, value=None, aim=aim, holds=None, undecided=f"its places share no seed; {SEEDS}")
    smallest = min(gaps, key=statistics.fmean)
    mean = statistics.fmean(smallest)
    sd = statistics.stdev(smallest) if len(smallest) > 1 else None
    spread = "" if sd is None else f" ± {sd:.1f}"
    figure = f"{mean:.1f}{spread} {points_of(steps[0][0].entry.metric)} ({counted(len(smallest), 'seeds')})"
    known = {"text": claim.text, "value": mean, "aim": aim, "figure": figure}
    # Fewer seeds do not tell the spread, so that nothing is decided by them.
    if min(map(len, gaps)) < ENOUGH:
        return Verdict(**known, holds=None, undecided=SEEDS)
    bound = claim.deviations * sd if claim.deviations < 0 else max(claim.least, claim.deviations * sd)
    return Verdict(**known, holds=mean >= bound)


def judge_ranking(claim: Ranking, found: Sequence[Place]) -> Verdict:
    """Hold the order of some places against the published one; fewer than three have none, nor have equal ones."""
    pairs = [(place.entry.mean, place.entry.published) for place in found if place.entry.published is not None]
    aim = f"at least {claim.least:g}"
    whole = all(place.entry.complete for place in found)
    if len(pairs) < 3 or not whole or any(len(set(numbers)) == 1 for numbers in zip(*pairs, strict=True)):
        return Verdict(text=claim.text, value=None, aim=aim, holds=None)
    value, seeds = rank_correlation(pairs), min(place.entry.n for place in found)
    figure = f"rank correlation {value:.2f} over {len(pairs)} places ({counted(seeds, 'seeds')})"
    few = None if seeds >= ENOUGH else SEEDS
    holds = None if few else value >= claim.least
    return Verdict(text=claim.text, value=value, aim=aim, holds=holds, undecided=few, figure=figure)


def places(wanted: Places, tables: Tables) -> list[Place]:
    """The places of a table that a claim names, complete or not; none where the table is missing."""
    table = tables(wanted.get(EXPERIMENT))
    if table is None:
        return []
    spec = table.spec
    found = []
    for i, row in enumerate(table.entries):
        for j, entry in enumerate(row):
            chosen = {METRIC: spec.metrics[0]}
            chosen |= zip(spec.rows.keys, spec.rows.values[i], strict=True)
            chosen |= zip(spec.columns.keys, spec.columns.values[j], strict=True)
            found.append(Place(entry, chosen))
    return [place for place in found if within(wanted, place.chosen, spec.metrics[0])]


def steps_of(claim: Difference | Rising, tables: Tables) -> Iterator[tuple[Place, Place]]:
    """(worse, better) places that a claim compares."""
    if isinstance(claim, Difference):
        better = places(claim.better, tables)
        worse = [place for place in places(claim.than, tables) if place not in better]
        yield from itertools.product(worse, better)
        return
    found = places(claim.at, tables)
    for axis in claim.along:
        lines: dict[str, list[Place]] = {}
        for place in found:
            others = {key: value for key, value in place.chosen.items() if key != axis}
            lines.setdefault(repr(others), []).append(place)
        for line in lines.values():
            yield from itertools.pairwise(line)


def gaps_between(worse: Place, better: Place) -> list[float]:
    """How much better a place is within each seed that both have."""
    sign = -1 if lower_is_better(better.entry.metric) else 1
    low, high = (dict(zip(place.entry.seeds, place.entry.values, strict=True)) for place in (worse, better))
    return [sign * (high[seed] - value) for seed, value in low.items() if seed in high]


def aim_of(least: float, deviations: float) -> str:
    """`at least 8 and 5 SD`."""
    if deviations < 0:
        return f"at least 0, less {-deviations:g} SD"
    return f"at least {least:g}" + (f" and {deviations:g} SD" if deviations else "")


def points_of(metric: str) -> str:
    """`points of mIoU`; `of RMSE (m)` where it is no percentage."""
    name, base = metric_title(metric), metric.partition("/")[0]
    if name == metric and metric_title(base) != base:
        # A metric that is taken elsewhere (miou/night) has the unit of the plain one.
        name = metric_title(base)
    return f"points of {name.partition(' (%)')[0]}" if "(%)" in name else f"of {name}"


def counted(count: int, of: str) -> str:
    """`3 seeds`, `1 seed`."""
    return f"{count} {of.removesuffix('s') if count == 1 else of}"


def judge_measures(claims: Sequence[Measure], measured: Mapping[str, Measured]) -> list[Verdict]:
    """Hold an analysis's claims against its numbers; what was not measured is not decided."""
    return [judge_measure(claim, measured) for claim in claims]


def judge_measure(claim: Measure, measured: Mapping[str, Measured]) -> Verdict:
    """Hold one claim against a number."""
    found, other = measured.get(claim.measure), measured.get(claim.of) if claim.of else None
    aim, holds = bound_of(claim, found, other)
    if found is None or (claim.of and other is None):
        return Verdict(text=claim.text, value=None, aim=aim, holds=None)
    figure = f"{found.value:.4g}" + (f" ({counted(found.count, found.of)})" if found.count else "")
    few = None
    if found.count is not None and found.count < ENOUGH:
        few = SEEDS_NEEDED if found.of == "seeds" else f"needs {ENOUGH} {found.of}"
    return Verdict(
        text=claim.text, value=found.value, aim=aim, holds=None if few else bool(holds), undecided=few, figure=figure
    )


def bound_of(claim: Measure, found: Measured | None, other: Measured | None) -> tuple[str, bool]:
    """A claim's aim in words, and whether a number meets it."""
    value = math.nan if found is None else found.value
    if claim.least is not None:
        return f"at least {claim.least:g}", value >= claim.least
    if claim.above is not None:
        return f"above {claim.above:g}", value > claim.above
    if claim.most is not None:
        return f"at most {claim.most:g}", value <= claim.most
    if claim.errors is not None:
        bound = claim.errors * (math.nan if found is None or found.error is None else found.error)
        known = "" if math.isnan(bound) else f", {bound:.2g}"
        return f"above {claim.errors:g} standard errors{known}", value > bound
    bound = claim.share * (math.nan if other is None else max(other.value, 0))
    known = "" if math.isnan(bound) else f", {bound:.2g}"
    return f"at most {claim.share:g} of {claim.of}{known}", abs(value) <= bound


def verdicts(found: Sequence[Verdict]) -> str:
    """How many of some claims hold, which do not, and why others are not decided."""
    decided = [own for own in found if own.holds is not None]
    failing = [own.text for own in decided if not own.holds]
    said = f"{len(decided) - len(failing)} of {len(decided)} decided claims hold"
    said += f"; not: {', '.join(failing)}" if failing else ""
    others = Counter(own.verdict for own in found if own.holds is None)
    return said + "".join(f"; {count} {verdict}" for verdict, count in others.items()) + "."
