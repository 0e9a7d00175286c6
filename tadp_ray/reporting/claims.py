"""Judges claims: those of experiments by their tables, those of analyses by their measurements."""

import itertools
import math
import re
import statistics
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter

from pydantic import JsonValue

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
from tadp_ray.config.metrics import metric_title
from tadp_ray.config.values import leaves, text_of
from tadp_ray.config.vocabulary import MIN_COUNT
from tadp_ray.reporting.resampling import PERCENT
from tadp_ray.reporting.seeds import gap_of, improvements
from tadp_ray.reporting.shades import quantity
from tadp_ray.reporting.table import Table, TableEntry, distinct, format_value, rank_correlation, same_trainings
from tadp_ray.wording import pluralized

RUN_MORE_SEEDS = "run --seeds " + ",".join(map(str, range(MIN_COUNT)))
"""What to do when a sweep has too few seeds."""
MORE_SEEDS = f"the bound lies inside a {PERCENT} % interval; run more seeds"
"""What to do when the seeds differ too much."""
MORE_SEEDS_IN_FILE = f"needs {MIN_COUNT} trained seeds, e.g. seeds: [0, 1, 2] in its file"
"""What to do when an analysis, whose file lists its seeds, has too few."""
Tables = Callable[[JsonValue], Table | None]
"""Finds the table of the experiment that a claim names; None means the claim's own experiment. Returns None if not run."""


@dataclass(frozen=True)
class ClaimEntry:
    """An entry of a table together with its coordinates."""

    entry: TableEntry
    coordinates: Mapping[str, JsonValue]
    """The value on every axis, and the metric."""
    table: Table = field(compare=False)


def judge(claim: TableClaim, tables: Tables) -> Verdict:
    """Judge an experiment's claim by the complete entries of the tables that it names.

    Args:
        claim: from the experiment's file.
        tables: finds the tables.
    """
    if isinstance(claim, Ranking):
        return judge_ranking(claim, select_entries(claim.at, tables))
    aim = aim_text(claim.min, claim.min_standard_deviations)
    pairs = list(compared_pairs(claim, tables))
    if not pairs or not all(own.entry.complete for pair in pairs for own in pair):
        return Verdict(text=claim.text, aim=aim)
    if other := other_settings(pairs):
        return Verdict(text=claim.text, aim=aim, undecided=f"the newest sweeps have other settings: {other}")
    gaps = [improvements(worse.entry, better.entry) for worse, better in pairs]
    if not all(gaps):
        return Verdict(text=claim.text, aim=aim, undecided=f"its entries share no seed; {RUN_MORE_SEEDS}")
    # With fewer seeds the spread is unknown.
    few = min(map(len, gaps)) < MIN_COUNT
    verdicts = [None if few else judge_differences(claim, own) for own in gaps]
    holds = False if False in verdicts else None if None in verdicts else True
    smallest = min((own for own, each in zip(gaps, verdicts, strict=True) if each is holds), key=statistics.fmean)
    mean = statistics.fmean(smallest)
    sd = statistics.stdev(smallest) if len(smallest) > 1 else math.nan
    metric = pairs[gaps.index(smallest)][0].entry.metric
    spread = "" if math.isnan(sd) else f" ± {format_value(metric, sd)}"
    if between := gap_of(smallest):
        spread += f" [{format_value(metric, between.low)}, {format_value(metric, between.high)}]"
    figure = f"{format_value(metric, mean)}{spread} {unit_of(metric)} ({pluralized(len(smallest), 'seeds')})"
    undecided = None if holds is not None else RUN_MORE_SEEDS if few else MORE_SEEDS
    return Verdict(text=claim.text, value=mean, aim=aim, holds=holds, undecided=undecided, figure=figure)


def other_settings(pairs: Sequence[tuple[ClaimEntry, ClaimEntry]]) -> str:
    """Return in what the settings of two compared tables differ, beside what they vary; empty if they do not."""
    tables = {(id(worse.table), id(better.table)): (worse.table, better.table) for worse, better in pairs}
    for one, other in (pair for pair in tables.values() if pair[0] is not pair[1]):
        if one.spec.settings != other.spec.settings:
            return f"{one.spec.settings or 'none'}; {other.spec.settings or 'none'}"
        # Files may have changed between two sweeps of the same settings.
        found, there = constants(one), constants(other)
        if differing := [key for key in found.keys() & there.keys() if found[key] != there[key]]:
            key = min(differing)
            return f"{key} {found[key]}; {key} {there[key]}"
    return ""


def constants(table: Table) -> dict[str, str]:
    """Return the values of data, schedule and augmentation that all cells of a table share, by their dotted keys."""
    known: dict[str, str] | None = None
    for cell in table.cells:
        values = leaves(cell.recipe.model_dump(mode="json", include={"schedule", "augment"}))
        own = {key: text_of(value) for key, value in values.items()}
        own |= {f"hash of {key} data": cell.digests.get(key, "")[:8] for key in ("train", "val")}
        known = own if known is None else {key: value for key, value in known.items() if own.get(key) == value}
    return known or {}


def judge_differences(claim: Difference | Rising, differences: Sequence[float]) -> bool | None:
    """Return whether one of a claim's differences, given for each seed, is large enough; None: not decided."""
    gap = gap_of(differences)
    if gap is None:
        return False  # some seed's is no number
    if not any(differences) and claim.min == 0 and not claim.min_standard_deviations < 0:
        return False  # equal rows, such as two of AP 0, are no better than each other
    if claim.min_standard_deviations:
        least = claim.min_standard_deviations * statistics.stdev(differences)
        return gap.mean >= (least if claim.min_standard_deviations < 0 else max(claim.min, least))
    return True if gap.low >= claim.min else False if gap.high < claim.min else None


def judge_ranking(claim: Ranking, selected: Sequence[ClaimEntry]) -> Verdict:
    """Judge the order of table entries by the published order. Fewer than three, or equal values, stay undecided."""
    aim = f"at least {claim.min:g}"
    if len({quantity(own.entry.metric) for own in selected}) > 1:
        several = "its places have several metrics, whose numbers have no common order; name one in the claim's `at`"
        return Verdict(text=claim.text, aim=aim, undecided=several)
    entries = [own.entry for own in distinct(selected, attrgetter("entry"))]
    pairs = [(entry.mean, entry.published) for entry in entries if entry.published is not None]
    complete = all(own.entry.complete for own in selected)
    if len(pairs) < 3 or not complete or any(len(set(numbers)) == 1 for numbers in zip(*pairs, strict=True)):
        return Verdict(text=claim.text, aim=aim)
    value, seeds = rank_correlation(pairs), min(own.entry.n for own in selected)
    figure = f"rank correlation {value:.2f} over {pluralized(len(pairs), 'entries')} ({pluralized(seeds, 'seeds')})"
    undecided = None if seeds >= MIN_COUNT else RUN_MORE_SEEDS
    holds = None if undecided else value >= claim.min
    return Verdict(text=claim.text, value=value, aim=aim, holds=holds, undecided=undecided, figure=figure)


def select_entries(wanted: Places, tables: Tables) -> list[ClaimEntry]:
    """Return the table entries that a claim names, complete or not; empty if the table is missing."""
    table = tables(wanted.get(EXPERIMENT))
    if table is None:
        return []
    entries = (
        ClaimEntry(entry, table.spec.coordinates(i, j), table)
        for i, row in enumerate(table.entries)
        for j, entry in enumerate(row)
    )
    return [own for own in entries if within(wanted, own.coordinates, table.spec.metrics[0])]


def compared_pairs(claim: Difference | Rising, tables: Tables) -> Iterator[tuple[ClaimEntry, ClaimEntry]]:
    """Yield the (worse, better) pairs of entries that a claim compares."""
    if isinstance(claim, Difference):
        better = select_entries(claim.better, tables)
        worse = [own for own in select_entries(claim.than, tables) if own not in better]
        named = {*claim.better, *claim.than}
        yield from (pair for pair in itertools.product(worse, better) if alike(*pair, except_for=named))
        return
    selected = select_entries(claim.at, tables)
    for axis in claim.along:
        lines: dict[str, list[ClaimEntry]] = {}
        for own in selected:
            others = {key: value for key, value in own.coordinates.items() if key != axis}
            lines.setdefault(repr(others), []).append(own)
        for line in lines.values():
            yield from itertools.pairwise(line)


def alike(worse: ClaimEntry, better: ClaimEntry, except_for: Container[str]) -> bool:
    """Return whether two entries can be compared: of different trainings, of one quantity, and alike but on some shared axes."""
    if same_trainings(worse.entry, better.entry) or quantity(worse.entry.metric) != quantity(better.entry.metric):
        return False
    shared = worse.coordinates.keys() & better.coordinates.keys()
    return all(worse.coordinates[key] == better.coordinates[key] for key in shared if key not in except_for)


def aim_text(least: float, deviations: float) -> str:
    """Return an aim in words, such as `at least 8 and 5 SD`."""
    if deviations < 0:
        return f"at least 0, less {-deviations:g} SD"
    return f"at least {least:g}" + (f" and {deviations:g} SD" if deviations else "")


def unit_of(metric: str) -> str:
    """Return `points of mIoU` for a percentage, `m of RMSE` for metres, and `of relative error` for a metric without a unit."""
    name, base = metric_title(metric), metric.partition("/")[0]
    if name == metric and metric_title(base) != base:
        # A metric on another data set (miou/night) has the unit of the plain one.
        name = metric_title(base)
    if (unit := re.search(r" \((.+?)\)", name)) is None:
        return f"of {name}"
    return f"{'points' if unit[1] == '%' else unit[1]} of {name.replace(unit[0], '')}"


def judge_measures(claims: Sequence[Measure], measured: Mapping[str, Measured]) -> list[Verdict]:
    """Judge an analysis's claims by its measurements; claims without a measurement are undecided."""
    return [judge_measure(claim, measured) for claim in claims]


def judge_measure(claim: Measure, measured: Mapping[str, Measured]) -> Verdict:
    """Judge one claim by its measurement."""
    result, other = measured.get(claim.measure), measured.get(claim.max_share_of) if claim.max_share_of else None
    aim, holds = bound_of(claim, result, other)
    if result is None or (claim.max_share_of and other is None):
        return Verdict(text=claim.text, aim=aim)
    figure, undecided = f"{result.value:.4g}", None if math.isfinite(result.value) else "it is no number"
    if result.count is not None and result.count < MIN_COUNT:
        undecided = MORE_SEEDS_IN_FILE if result.of == "seeds" else f"needs {MIN_COUNT} {result.of}"
    if between := gap_of(result.by_seed):
        figure += f" [{between.low:.4g}, {between.high:.4g}]"
        ends = {holds, *(bound_of(claim, replace(result, value=end), other)[1] for end in (between.low, between.high))}
        undecided = MORE_SEEDS if len(ends) > 1 else None
    figure += f" ({pluralized(result.count, result.of)})" if result.count else ""
    return Verdict(
        text=claim.text,
        value=result.value,
        aim=aim,
        holds=None if undecided else bool(holds),
        undecided=undecided,
        figure=figure,
    )


def bound_of(claim: Measure, result: Measured | None, other: Measured | None) -> tuple[str, bool]:
    """Return a claim's aim in words, and whether the measurement meets it."""
    value = math.nan if result is None else result.value
    if claim.min is not None:
        return f"at least {claim.min:g}", value >= claim.min
    if claim.above is not None:
        return f"above {claim.above:g}", value > claim.above
    if claim.max is not None:
        return f"at most {claim.max:g}", value <= claim.max
    if claim.min_standard_errors is not None:
        bound = claim.min_standard_errors * (math.nan if result is None or result.error is None else result.error)
        number = "" if math.isnan(bound) else f", {bound:.2g}"
        return f"above {claim.min_standard_errors:g} standard errors{number}", value > bound
    assert claim.max_share is not None  # a claim has one bound
    bound = claim.max_share * (math.nan if other is None else max(other.value, 0))
    number = "" if math.isnan(bound) else f", {bound:.2g}"
    return f"at most {claim.max_share:g} of {claim.max_share_of}{number}", abs(value) <= bound


def claims_summary(verdicts: Sequence[Verdict]) -> str:
    """Return one sentence: how many claims hold, which do not, and why the others are undecided."""
    decided = [own for own in verdicts if own.holds is not None]
    failing = [own.text for own in decided if not own.holds]
    summary = f"{len(decided) - len(failing)} of {len(decided)} decided claims hold"
    summary += f"; not: {', '.join(failing)}" if failing else ""
    others = Counter(own.verdict for own in verdicts if own.holds is None)
    return summary + "".join(f"; {count} {verdict}" for verdict, count in others.items()) + "."
