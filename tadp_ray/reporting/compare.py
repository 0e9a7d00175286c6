"""A table's rows against one of them: paired differences, with an interval over the scored images."""

import json
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
from tadp_ray.config.vocabulary import METRIC
from tadp_ray.errors import UserError
from tadp_ray.reporting.resampling import PERCENT, RESAMPLES, interval, resamples
from tadp_ray.reporting.table import Difference, Table, TableEntry
from tadp_ray.tasks.per_image import PerImage

Images = Mapping[str, PerImage]
"""What each image adds to a cell's score, by the id of its run, of the cells that kept it."""
Resampled = tuple[tuple[str, ...], np.ndarray]
"""Image ids, and a metric of every data set that was drawn from them."""


def compare(table: Table, against: str, images: Images) -> Table:
    """The table with every place's difference to the baseline row's place in the same column.

    Raises:
        ConfigError: no row is named so, or the rows are metrics, which have no difference.
    """
    base = row_named(table.spec.rows, against)
    reasons: Counter[str] = Counter()

    @cache
    def resampled(run: str, metric: str) -> Resampled:
        if run not in images:
            raise UserError("cells from before results were kept by image")
        return images[run].ids, images[run].scores(metric, resamples(len(images[run].ids)))

    entries = [list(row) for row in table.entries]
    for row in (*entries[:base], *entries[base + 1 :]):
        for column, other in enumerate(table.entries[base]):
            found, reason = difference(row[column], other, resampled)
            row[column] = replace(row[column], difference=found)
            reasons.update(reason)
    notes = [explained(table.spec.rows.headings[base], images)]
    notes += [f"no interval at {count} place(s): {reason}" for reason, count in reasons.items()]
    rows = tuple(map(tuple, entries))
    return replace(table, entries=rows, baseline=base, notes=(*table.notes, *notes))


def difference(
    entry: TableEntry, other: TableEntry, resampled: Callable[[str, str], Resampled]
) -> tuple[Difference | None, list[str]]:
    """How far a place lies above another over the seeds of both, and why there is no interval, if so."""
    pairs = [(entry.seeds.index(seed), other.seeds.index(seed)) for seed in entry.seeds if seed in other.seeds]
    gaps = [entry.values[i] - other.values[j] for i, j in pairs]
    if not gaps or not all(map(math.isfinite, gaps)):
        return None, []
    spread = statistics.stdev(gaps) if len(gaps) > 1 else None
    known = Difference(statistics.fmean(gaps), spread, decimals=base_metric(entry.metric).decimals)
    try:
        runs = [run for i, j in pairs for run in (entry.run_ids[i], other.run_ids[j])]
        ids, scores = zip(*(resampled(run, entry.metric) for run in runs), strict=True)
    except UserError as error:
        return known, [str(error)]
    if len({*ids}) > 1:
        return known, ["cells scored on other images than the baseline's"]
    low, high = interval(np.mean([ours - base for ours, base in zip(scores[::2], scores[1::2], strict=True)], 0))
    return replace(known, low=float(low), high=float(high)), []


def explained(heading: str, images: Images) -> str:
    """What the differences and their intervals are."""
    counts = sorted({len(own.ids) for own in images.values()})
    shown = f"the {' or '.join(map(str, counts))} scored images" if counts else "the scored images"
    return (
        f"Differences are to {heading}: within each seed that both rows have, mean ± sample standard deviation over these "
        f"seeds; in brackets the {PERCENT} % percentile interval of the mean over {RESAMPLES} resamples of {shown}, the same "
        "ones for both rows and all seeds; * where it excludes zero. It tells the chance in the choice of images; that in "
        "training is told by the standard deviation, and not at all by one seed"
    )


def row_named(side: Side, text: str) -> int:
    """The number of the row that a text names by its heading, or as `key=value`, several keys apart by commas.

    Raises:
        ConfigError: there is none, or the rows are metrics.
    """
    if METRIC in side.keys:
        raise ConfigError([f"--against {text}: this table's rows are metrics, which have no difference; name no row"])
    parts = [part.strip().partition("=") for part in text.split(",")]
    short = tuple(key.rpartition(".")[2] for key in side.keys)
    keyed = tuple(key for key, _, _ in parts) in (side.keys, short)
    for i, (name, heading, values) in enumerate(zip(side.names, side.headings, side.values, strict=True)):
        if text.strip() in (name, heading):
            return i
        if keyed and all(word in spellings(value) for (_, _, word), value in zip(parts, values, strict=True)):
            return i
    pairs = [", ".join(f"{key}={value}" for key, value in zip(side.keys, row, strict=True)) for row in side.values]
    named = pairs if "=" in text else list(dict.fromkeys([*side.headings, *side.names]))
    raise ConfigError([f"--against {text}: no such row; {nearest(text, named)}"])


def spellings(value: object) -> set[str]:
    """How a value may be written: 1.0 as 1 too, and as YAML has it."""
    return {str(value), json.dumps(value), *([f"{value:g}"] if isinstance(value, int | float) else [])}
