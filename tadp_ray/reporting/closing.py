"""What a sweep says at its end: what its table shows, how sure that is, and the next command worth running."""

import itertools
import shlex
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

from tadp_ray.config.metrics import lower_is_better
from tadp_ray.config.vocabulary import METRIC, MIN_COUNT
from tadp_ray.reporting.claims import unit_of
from tadp_ray.reporting.resampling import PERCENT
from tadp_ray.reporting.seeds import gap_of, improvements
from tadp_ray.reporting.table import Table, TableEntry, distinct, format_value
from tadp_ray.wording import pluralized


@dataclass(frozen=True)
class NextCommands:
    """Commands as a person types them."""

    again: str
    """The same sweep of all its cells."""
    sweep: str
    """The same, without its seeds."""
    table: str
    """The sweep's table."""
    report: str


def closing_lines(table: Table, commands: NextCommands) -> list[str]:
    """Return the last words on a sweep: a sentence on its table, and the next command with its reason."""
    return [finding(table), next_step(table, commands)]


def finding(table: Table) -> str:
    """Return one sentence on the first metric: the best entry, the next one, and whether seeds tell them apart.

    The interval is that of Student's t over the differences of the seeds that both entries have. It needs `MIN_COUNT` seeds.
    """
    ranking = distinct(table.ranked(table.spec.metrics[0]), itemgetter(1))
    if not ranking:
        return "No entry of the table is complete yet."
    told = [f"{table.heading(place)} with {entry.text}" for place, entry in ranking[:2]]
    first = [entry for _, entry in ranking[:2]]
    if len(ranking) == 1:
        return f"One entry is complete: {told[0]}.{no_spread(first)}"
    best, second = first
    most = "lowest" if lower_is_better(best.metric) else "highest"
    start = f"The {most} of {len(ranking)} entries is {told[0]}; the next is {told[1]}"
    gaps = improvements(second, best)
    if len(gaps) < 2:
        return f"{start}.{no_spread(first) or ' The two entries share too few seeds for a verdict.'}"
    gap, sd = statistics.fmean(gaps), statistics.stdev(gaps)
    spread = f"{format_value(best.metric, gap)} ± {format_value(best.metric, sd)}"
    apart = f"{start}. The difference is {spread} {unit_of(best.metric)}"
    if len(gaps) < MIN_COUNT:
        return f"{apart}; {len(gaps)} seeds are too few for a verdict."
    interval = gap_of(gaps)
    if interval is None:
        # A value is not finite.
        return f"{apart}."
    verdict = "seeds alone do not explain it" if interval.told_apart else "seeds alone may explain it"
    low, high = format_value(best.metric, interval.low), format_value(best.metric, interval.high)
    return f"{apart}, with a {PERCENT} % interval of {low} to {high} over {interval.n} seeds; {verdict}."


def next_step(table: Table, commands: NextCommands) -> str:
    """Return the next command and why it is worth running: missing cells, then more seeds, then differences, then the report."""
    if table.unfinished:
        are = "is" if table.unfinished == 1 else "are"
        return f"next, train the {pluralized(table.unfinished, 'cells')} that {are} not finished: {commands.again}"
    entries = [entry for row in table.entries for entry in row if entry.metric == table.spec.metrics[0]]
    if min(entry.n for entry in entries if entry.num_seeds) < MIN_COUNT:
        return f"next, run more seeds: {commands.sweep} --seeds {','.join(map(str, enough_seeds(entries)))}"
    if (row := baseline_row(table)) is not None:
        against = shlex.quote(table.spec.rows.headings[row])
        return f"next, show the differences to a row, image by image: {commands.table} --against {against}"
    return f"next, write all tables on one page: {commands.report}"


def enough_seeds(entries: Sequence[TableEntry]) -> list[int]:
    """Return the seeds of entries, and the smallest further ones that a verdict needs."""
    own = {seed for entry in entries for seed in entry.seeds}
    others = (seed for seed in itertools.count() if seed not in own)
    return sorted([*own, *itertools.islice(others, max(MIN_COUNT - len(own), 0))])


def baseline_row(table: Table) -> int | None:
    """Return the row of the best entry that lies in another row than the best of all; None if there is none.

    Rows that are metrics cannot be subtracted.
    """
    if METRIC in table.spec.rows.keys:
        return None
    rows = [row for (row, _), _ in table.ranked(table.spec.metrics[0])]
    return next((row for row in rows if row != rows[0]), None)


def no_spread(entries: Sequence[TableEntry]) -> str:
    """Return a sentence if one of the entries has one seed, so that nothing is known of its spread; else nothing."""
    return " With one seed, there is no ± and no verdict." if min(entry.n for entry in entries) == 1 else ""
