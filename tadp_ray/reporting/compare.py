"""Compares a table's rows with a baseline row: paired differences, with intervals over the scored images."""

import math
import statistics
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache

import numpy as np

from tadp_ray.config.errors import ConfigError, nearest
from tadp_ray.config.metrics import base_metric
from tadp_ray.config.table import Side
from tadp_ray.config.values import meant, split_words
from tadp_ray.config.vocabulary import METRIC, MIN_COUNT
from tadp_ray.errors import UserError
from tadp_ray.reporting.resampling import PERCENT, RESAMPLES, interval, resamples
from tadp_ray.reporting.table import EntryDifference, Table, TableEntry
from tadp_ray.tasks.per_image import PerImage

Images = Mapping[str, PerImage]
"""Per-image results by run id."""
Resampled = tuple[tuple[str, ...], np.ndarray]
"""Image ids, and a metric of every resampled data set."""


def compare(table: Table, against: str, images: Images) -> Table:
    """Return the table with every entry's difference to the baseline row in the same column.

    Raises:
        ConfigError: there is no such row, or the rows are metrics, which cannot be subtracted.
    """
    base = find_row(table.spec.rows, against)
    reasons: Counter[str] = Counter()
    find, entries = differences_to(images), [list(row) for row in table.entries]
    for row in (*entries[:base], *entries[base + 1 :]):
        for column, other in enumerate(table.entries[base]):
            found, reason = find(row[column], other)
            row[column] = replace(row[column], difference=found)
            reasons.update(reason)
    notes = [differences_note(table.spec.rows.headings[base], images)]
    notes += [
        f"no interval for {count} {'entry' if count == 1 else 'entries'}: {reason}" for reason, count in reasons.items()
    ]
    rows = tuple(map(tuple, entries))
    return replace(table, entries=rows, baseline=base, notes=(*table.notes, *notes))


def differences_to(images: Images) -> Callable[[TableEntry, TableEntry], tuple[EntryDifference | None, list[str]]]:
    """Return the function `difference` for these per-image results, each of which it resamples once."""

    @cache
    def resampled(run: str, metric: str) -> Resampled:
        if run not in images:
            raise UserError("cells without per-image results")
        own = images[run]
        if own.counted(metric).sum() < MIN_COUNT:
            raise UserError(f"an interval over images needs {MIN_COUNT} that the metric depends on")
        return own.ids, own.scores(metric, resamples(len(own.ids)))

    return lambda entry, other: difference(entry, other, resampled)


def difference(
    entry: TableEntry, other: TableEntry, resampled: Callable[[str, str], Resampled]
) -> tuple[EntryDifference | None, list[str]]:
    """Return an entry's difference to another over their common seeds, and the reason if there is no interval."""
    pairs = [(entry.seeds.index(seed), other.seeds.index(seed)) for seed in entry.seeds if seed in other.seeds]
    gaps = [entry.values[i] - other.values[j] for i, j in pairs]
    if not gaps or not all(map(math.isfinite, gaps)):
        return None, []
    spread = statistics.stdev(gaps) if len(gaps) > 1 else None
    result = EntryDifference(statistics.fmean(gaps), spread, decimals=base_metric(entry.metric).decimals)
    try:
        runs = [run for i, j in pairs for run in (entry.run_ids[i], other.run_ids[j])]
        ids, scores = zip(*(resampled(run, entry.metric) for run in runs), strict=True)
    except UserError as error:
        return result, [str(error)]
    if len({*ids}) > 1:
        return result, ["cells scored on other images than the baseline's"]
    low, high = interval(np.mean([ours - base for ours, base in zip(scores[::2], scores[1::2], strict=True)], 0))
    return replace(result, interval=(float(low), float(high))), []


def differences_note(heading: str, images: Images) -> str:
    """Return a note that explains the differences and their intervals."""
    counts = sorted({len(own.ids) for own in images.values()})
    scored = f"the {' or '.join(map(str, counts))} scored images" if counts else "the scored images"
    return (
        f"Differences are to {heading}: mean ± sample standard deviation over the seeds that both rows have; in brackets "
        f"the {PERCENT} % percentile interval of the mean over {RESAMPLES} resamples of {scored}, the same for both rows "
        "and all seeds; * if it excludes zero. The interval covers the sampling of images; the standard deviation covers "
        "training, and a single seed has none"
    )


def find_row(side: Side, text: str, option: str = "--against") -> int:
    """Return the index of the row or column that `text` names by its heading or its values, several separated by commas.

    Values are accepted as by `--only`, see `meant`.

    Raises:
        ConfigError: there is no such row, or the rows are metrics.
    """
    line = "column" if option == "--column" else "row"
    if METRIC in side.keys and option != "--column":
        raise ConfigError([f"{option} {text}: this table's rows are metrics, which cannot be compared; leave it out"])
    for i, headings in enumerate(zip(side.names, side.headings, strict=True)):
        if text.strip() in headings:
            return i
    words = split_words(text) if len(side.keys) > 1 else [text]
    if len(words) == len(side.keys):
        found = [meant(word, {key: side.axes[key]}) for word, key in zip(words, side.keys, strict=True)]
        if all(found):
            return side.values.index(tuple(value for _, value in filter(None, found)))
    pairs = [", ".join(f"{key}={each}" for key, each in zip(side.keys, row, strict=True)) for row in side.texts]
    candidates = pairs if "=" in text else list(dict.fromkeys([*side.headings, *side.names]))
    raise ConfigError([f"{option} {text}: no such {line}; {nearest(text, candidates)}"])
