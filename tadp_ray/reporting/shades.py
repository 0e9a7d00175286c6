"""Colours of heat maps: where every entry of a table lies between the worst and the best of what it measures."""

import math
from collections.abc import Sequence

from tadp_ray.config.metrics import OF_CAPTIONS, lower_is_better, metric_title
from tadp_ray.config.table import TableSpec


def quantity(metric: str) -> str:
    """Return what a metric measures: miou of best_miou, miou/night and miou/oracle, which can be compared with each other."""
    of_captions = (name for name in OF_CAPTIONS if metric.startswith(name))
    return next(of_captions, metric.removeprefix("best_").partition("/")[0])


def quantities(spec: TableSpec) -> list[str]:
    """Return what the metrics of a table measure, each once and in their order."""
    return list(dict.fromkeys(map(quantity, spec.metrics)))


def quantity_title(spec: TableSpec, own: str) -> str:
    """Return the title of a quantity: that of its metric, if a table has one metric of it."""
    metrics = [metric for metric in spec.metrics if quantity(metric) == own]
    return metric_title(own if metrics[1:] else metrics[0])


def metrics_by_place(spec: TableSpec) -> list[str]:
    """Return the metric of every entry, row by row."""
    return [spec.metric_at(i, j) for i in range(len(spec.rows.names)) for j in range(len(spec.columns.names))]


def ranges(spec: TableSpec, values: Sequence[float], complete: Sequence[bool]) -> dict[str, tuple[float, float]]:
    """Return the least and the largest of the complete values by quantity, or of all values where none is complete.

    A quantity without values has none. Incomplete values are left out, since few seeds may lie far off by chance.
    """
    found: dict[str, tuple[list[float], list[float]]] = {}
    for metric, value, whole in zip(metrics_by_place(spec), values, complete, strict=True):
        if math.isfinite(value):
            found.setdefault(quantity(metric), ([], []))[0 if whole else 1].append(value)
    chosen = {own: whole or partial for own, (whole, partial) in found.items()}
    return {own: (min(each), max(each)) for own, each in chosen.items()}


def shades(spec: TableSpec, values: Sequence[float], complete: Sequence[bool]) -> list[float]:
    """Return for every value, row by row, where it lies in its quantity's range: 0 is the worst, 1 the best.

    Heat maps colour by them, since quantities of one table differ in unit and in direction. Values that are not finite stay.
    """
    spans = ranges(spec, values, complete)
    return [
        shade(value, *spans[quantity(metric)], lower_is_better(metric)) if math.isfinite(value) else value
        for metric, value in zip(metrics_by_place(spec), values, strict=True)
    ]


def shade(value: float, low: float, high: float, less: bool) -> float:
    """Return where a value lies between the worst (0) and the best (1); 0.5 if they are equal."""
    part = min(1.0, max(0.0, (value - low) / (high - low))) if high > low else 0.5
    return 1 - part if less else part


def colours_note(spec: TableSpec) -> str:
    """Return what the colours of a heat map mean; empty where it goes without saying: one quantity, of which more is better."""
    if len(quantities(spec)) > 1:
        return "Colours: bright is better. Each metric has a range of its own."
    return "Colours: bright is better, so lower values are brighter." if lower_is_better(spec.metrics[0]) else ""
