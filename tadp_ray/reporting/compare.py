"""A table's rows against one of them: paired differences, with an interval over the scored images."""

import json
import math
import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import numpy as np

from tadp_ray.config.errors import ConfigError, nearest
from tadp_ray.config.vocabulary import METRIC
from tadp_ray.metrics.per_image import PerImage
from tadp_ray.reporting.resampling import PERCENT, RESAMPLES, interval, resamples
from tadp_ray.reporting.table import Difference, Entry, Side, Table

Images = Mapping[str, PerImage]
"""What each image adds to a cell's score, by the id of its run, of the cells that kept it."""


def compare(table: Table, against: str, images: Images) -> Table:
    """The table with every place's difference to the baseline row's place in the same column.

    Raises:
        ConfigError: no row is named so, or the rows are metrics, which have no difference.
    """
    base = row_named(table.spec.rows, against)
    reasons: Counter[str] = Counter()

    @cache
    def resampled(run: str, metric: str) -> np.ndarray:
        if run not in images:
            raise ValueError("cells from before results were kept by image")
        return images[run].scores(metric, resamples(len(images[run].ids)))

    def difference(entry: Entry, other: Entry) -> Difference | None:
        pairs = [(entry.seeds.index(seed), other.seeds.index(seed)) for seed in entry.seeds if seed in other.seeds]
        gaps = [entry.values[i] - other.values[j] for i, j in pairs]
        if not gaps or not all(map(math.isfinite, gaps)):
            return None
        known = Difference(statistics.fmean(gaps), statistics.stdev(gaps) if len(gaps) > 1 else None)
        try:
            runs = [(entry.run_ids[i], other.run_ids[j]) for i, j in pairs]
            spread = [resampled(left, entry.metric) - resampled(right, entry.metric) for left, right in runs]
            if len({images[run].ids for pair in runs for run in pair}) > 1:
                raise ValueError("cells scored on other images than the baseline's")
        except ValueError as error:
            reasons[str(error)] += 1
            return known
        low, high = interval(np.mean(spread, 0)).tolist()
        return replace(known, low=low, high=high)

    entries = tuple(
        row
        if i == base
        else tuple(
            replace(entry, difference=difference(entry, other))
            for entry, other in zip(row, table.entries[base], strict=True)
        )
        for i, row in enumerate(table.entries)
    )
    notes = [explained(table.spec.rows.headings[base], images)]
    notes += [f"no interval at {count} places: {reason}" for reason, count in reasons.items()]
    return replace(table, entries=entries, baseline=base, notes=(*table.notes, *notes))


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
