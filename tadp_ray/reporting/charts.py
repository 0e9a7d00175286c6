"""Interactive charts of a table, as Vega-Lite specifications: heat maps, learning curves, compared rows, searched values.

A page draws them with Vega's own library, which it holds once. Data are added after Altair has checked a chart's grammar,
since checking every record would take longer than all else. Colours of text and lines are the page's, see `report.js`.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import altair as alt
import vl_convert
from markupsafe import Markup

from tadp_ray.config.metrics import base_metric
from tadp_ray.config.table import Side, TableSpec
from tadp_ray.config.vocabulary import METRIC
from tadp_ray.reporting.importance import Importance
from tadp_ray.reporting.shades import colours_note, shades
from tadp_ray.reporting.table import Place, Table, metric_label
from tadp_ray.tracking.query import Curve
from tadp_ray.wording import shown

Records = Sequence[Mapping[str, Any]]
SERIES = ("#1E86C8", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C8C8C")
"""Okabe and Ito's colours without yellow, which a white page hides, with a lighter blue for dark pages, and grey."""
AMOUNTS = ("#3E6FB0", "#8C8C8C", "#E07A1F")
"""From low to high for thin lines, which cividis would hide on a dark or on a light page."""
MAX_PANELS = 24
"""Rows whose learning curves are drawn."""
HEIGHT = 190
"""Of a panel of learning curves in pixels."""


@dataclass(frozen=True)
class Chart:
    """A chart of a page."""

    title: str
    note: str
    """Below the chart; may be empty."""
    spec: Mapping[str, Any]
    """Vega-Lite, with its data."""
    width: int = 260
    """The least width in pixels that it can be read at; a narrower frame scrolls."""


@cache
def library() -> Markup:
    """Return the JavaScript of Vega, Vega-Lite and Vega-Embed; all are under the BSD 3-Clause licence."""
    return Markup(vl_convert.javascript_bundle())  # noqa: S704 - of an installed package, no text of a user's


def with_data(chart: alt.TopLevelMixin, records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a chart as Vega-Lite with these records; numbers that are not finite are missing."""
    return filled(grammar(chart), records)


def grammar(chart: alt.TopLevelMixin) -> dict[str, Any]:
    """Return a chart as Vega-Lite without its data, checked by Altair, which takes a tenth of a second."""
    spec = chart.to_dict()
    spec.pop("config", None)
    # Altair names the missing data of every layer, which would hide those of the whole chart.
    for layer in spec.get("layer", ()):
        if layer.get("data") == {"name": "empty"}:
            del layer["data"]
    return spec


def filled(spec: Mapping[str, Any], records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a chart with its data; numbers that are not finite are missing."""
    values = [
        {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in own.items()}
        for own in records
    ]
    return {**spec, "data": {"values": values}}


def series(names: Sequence[str]) -> alt.Scale:
    """Return the colours of named lines."""
    colours = [SERIES[number % len(SERIES)] for number in range(len(names))]
    return alt.Scale(domain=list(names), range=colours)


def legend_of(names: Sequence[str]) -> alt.Legend:
    """Return a legend above a chart that is no wider than a phone."""
    return alt.Legend(orient="top", columns=max(1, 36 // (4 + max(map(len, names)))), labelLimit=240)


def heat_maps(table: Table, place_id: str) -> list[Chart]:
    """Return a heat map of our means and, if there are several, one of the published numbers.

    Each has its own range of colours, since only the pattern is comparable between scales. A click on an entry of ours gives its
    `place`: `place_id` followed by row and column.
    """
    spec = table.spec
    entries = [(i, j, entry) for i, row in enumerate(table.entries) for j, entry in enumerate(row)]
    ours = [
        {"place": f"{place_id}-{i}-{j}", "value": entry.mean, "text": entry.text, "lines": entry.text.split(" ", 1)}
        for i, j, entry in entries
    ]
    maps = [heat_map(spec, f"ours, {spec.scale} scale", ours, [entry.complete for _, _, entry in entries])]
    if table.published_pattern:
        theirs = [
            {
                "value": math.nan if entry.published is None else entry.published,
                "text": entry.published_text,
                "lines": [entry.published_text],
            }
            for _, _, entry in entries
        ]
        maps.append(heat_map(spec, "published", theirs, [True] * len(theirs)))
    return maps


def heat_map(spec: TableSpec, title: str, values: Records, complete: Sequence[bool]) -> Chart:
    """Return one heat map of values, row by row; missing ones have no colour, and incomplete ones do not set its range."""
    columns, found = len(spec.columns.names), shades(spec, [own["value"] for own in values], complete)
    records = [
        # Rows and columns by number, since names may be equal.
        {**without(own, "lines"), "first": own["lines"][0], "second": " ".join(own["lines"][1:])}
        | {"row": number // columns, "column": number % columns, "shade": shade, "dark": shade < 0.5}
        | {"rows": spec.rows.names[number // columns], "columns": spec.columns.names[number % columns]}
        for number, (own, shade) in enumerate(zip(values, found, strict=True))
    ]
    tooltip = [
        alt.Tooltip("rows:N", title=spec.rows.label),
        alt.Tooltip("columns:N", title=spec.columns.label),
        # One of several metrics is named by its row or column.
        alt.Tooltip("text:N", title="value" if spec.metrics[1:] else metric_label(spec)),
    ]
    base = alt.Chart().encode(
        x=alt.X(
            "column:O",
            title=spec.columns.label,
            axis=named_axis(spec.columns.names, orient="top", **slant(spec.columns.names)),
        ),
        y=alt.Y("row:O", title=spec.rows.label, axis=named_axis(spec.rows.names)),
        tooltip=tooltip,
    )
    missing = "!isValid(datum.value)"
    clickable = {"cursor": "pointer"} if "place" in values[0] else {}
    colour = alt.condition(
        missing,
        alt.value("transparent"),
        alt.Color("shade:Q", scale=alt.Scale(scheme="cividis", domain=[0, 1]), legend=None),
    )
    squares = base.mark_rect(cornerRadius=3, **clickable).encode(color=colour)
    ink = alt.condition("datum.dark", alt.value("#ffffff"), alt.value("#101418"))

    def words(line: str, only: str, **style: Any) -> alt.Chart:
        """Return one line of every entry's text, of those entries that fulfil a condition."""
        return base.mark_text(**style, **clickable).encode(text=f"{line}:N").transform_filter(only)

    chart = alt.layer(
        squares,
        words("first", "isValid(datum.value) && !datum.second", fontSize=13).encode(color=ink),
        words("first", "isValid(datum.value) && datum.second", fontSize=13, dy=-7).encode(color=ink),
        words("second", "isValid(datum.value) && datum.second", fontSize=11, dy=9).encode(color=ink),
        words("text", missing),
    ).properties(width="container", height=48 * len(spec.rows.names) + 4)
    longest = min(24, max(map(len, spec.rows.names)))
    return Chart(title, colours_note(spec), with_data(chart, records), width=60 + 7 * longest + 62 * columns)


def without(record: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return a record without one of its values."""
    return {name: value for name, value in record.items() if name != key}


def slant(names: Sequence[str]) -> dict[str, Any]:
    """Return how the names of columns are written: level, or slanted if they are long."""
    return {"labelAngle": 0} if max(map(len, names)) <= 16 else {"labelAngle": -30, "labelAlign": "left"}


def named_axis(names: Sequence[str], **options: Any) -> alt.Axis:
    """Return the axis of numbered rows or columns that shows their names."""
    # An array of Vega's expression language is JSON.
    return alt.Axis(
        labelExpr=f"{json.dumps(list(names))}[datum.value]", labelLimit=170, domain=False, ticks=False, **options
    )


def curve_records(curves: Mapping[int, Curve]) -> list[dict[str, Any]]:
    """Return the points of one entry's curves by seed; numbers that are not finite are missing."""
    return [
        {"seed": seed, "step": step, "value": value if math.isfinite(value) else None}
        for seed, curve in curves.items()
        for step, value in curve
    ]


def learning_curves(
    spec: TableSpec, curves: Mapping[Place, Mapping[int, Curve]], title: str, decimals: int
) -> list[Chart]:
    """Return one panel of learning curves per row of a table: a thin line for each seed, a thick one for their mean.

    Args:
        spec: the table's layout.
        curves: (step, value) by place and seed.
        title: of the values.
        decimals: of the values.
    """
    finite = [v for own in curves.values() for curve in own.values() for _, v in curve if math.isfinite(v)]
    if not finite:
        return []
    rows, columns = without_metric(spec.rows), without_metric(spec.columns)
    names = [columns.names[column] for column in sorted({place[1] for place in curves})]
    legend = legend_of(names) if names[1:] else None
    colour = alt.Color("column:N", scale=series(names), title=columns.label, legend=legend)
    y = alt.Y("value:Q", title=title, scale=alt.Scale(domain=[min(finite), max(finite)], nice=True))
    base = alt.Chart().encode(x=alt.X("step:Q", title="step", axis=alt.Axis(format="~s")), y=y, color=colour)
    named = [alt.Tooltip("column:N", title=columns.label)] if columns.keys else []
    tooltip = [*named, "seed:N", "step:Q", alt.Tooltip("value:Q", format=f".{decimals}f")]
    # Few points are evaluations, which are told from the lines between them; many are steps.
    steps = max(len(curve) for own in curves.values() for curve in own.values())
    points = {"point": {"size": 22}} if steps <= 8 else {}
    seeds = base.mark_line(strokeWidth=1, opacity=0.4, **points).encode(detail="seed:N", tooltip=tooltip)
    mean = base.mark_line(strokeWidth=2.5).encode(y=alt.Y("mean(value):Q", title=title))
    chart, panels = grammar(alt.layer(seeds, mean).properties(width="container", height=HEIGHT)), []
    for row in sorted({place[0] for place in curves})[:MAX_PANELS]:
        records = [
            {"column": columns.names[column], **point}
            for (own, column), of_seeds in sorted(curves.items())
            if own == row
            for point in curve_records(of_seeds)
        ]
        panels.append(Chart(rows.headings[row] if rows.keys else title, "", filled(chart, records)))
    return panels


def without_metric(side: Side) -> Side:
    """Return rows or columns without the metric in their names: a curve has one of its own."""
    kept = [number for number, key in enumerate(side.keys) if key != METRIC]
    values = tuple(tuple(own[number] for number in kept) for own in side.values)
    return Side(tuple(side.keys[number] for number in kept), values)


def entry_curve(title: str, decimals: int) -> dict[str, Any]:
    """Return the chart of one entry's curves by seed, without data, which the page adds when the entry is opened."""
    chart = (
        alt.Chart()
        .mark_line(point={"size": 28})
        .encode(
            x=alt.X("step:Q", title="step", axis=alt.Axis(format="~s")),
            y=alt.Y("value:Q", title=title, scale=alt.Scale(zero=False)),
            color=alt.Color("seed:N", scale=alt.Scale(range=list(SERIES)), legend=alt.Legend(orient="top")),
            tooltip=["seed:N", "step:Q", alt.Tooltip("value:Q", format=f".{decimals}f")],
        )
        .properties(width="container", height=HEIGHT)
    )
    return with_data(chart, [])


def compared_rows(spec: TableSpec, differences: Records, note: str) -> Chart:
    """Return the chart of every row's difference to a row that the reader chooses, with intervals.

    Args:
        spec: the table's layout.
        differences: with row, against, column, difference, low, high (None without an interval) and apart.
        note: what the intervals are.
    """
    names, columns = list(spec.rows.headings), list(spec.columns.headings)
    form = f"+.{max(base_metric(metric).decimals for metric in spec.metrics)}f"
    against = alt.param(name="against", value=names[0], bind=alt.binding_select(options=names, name="compared with "))
    base = alt.Chart().encode(
        y=alt.Y("row:N", sort=names, title=None, axis=alt.Axis(labelLimit=200, ticks=False, domain=False)),
        yOffset=alt.YOffset("column:N", sort=columns),
        tooltip=[
            "row:N",
            "against:N",
            "column:N",
            *(alt.Tooltip(f"{own}:Q", format=form) for own in ("difference", "low", "high")),
        ],
    )
    colour, title = series(columns), f"difference of {metric_label(spec)}" if len(spec.metrics) == 1 else "difference"
    legend = legend_of(columns) if len(columns) > 1 else None
    chosen = "datum.against === against"
    bars = base.mark_rule(strokeWidth=2).encode(
        x=alt.X("low:Q", title=title),
        x2="high:Q",
        stroke=alt.Stroke("column:N", scale=colour, title=None, legend=legend),
    )
    points = base.mark_point(size=56, strokeWidth=2).encode(
        x=alt.X("difference:Q", title=title),
        stroke=alt.Stroke("column:N", scale=colour, title=None, legend=legend),
        fill=alt.Fill("column:N", scale=colour, title=None, legend=legend),
        fillOpacity=alt.condition("datum.apart", alt.value(1), alt.value(0)),
    )
    zero = alt.Chart(alt.Data(values=[{"zero": 0}])).mark_rule(strokeDash=[3, 3]).encode(x="zero:Q")
    chart = alt.layer(zero, bars.transform_filter(chosen), points.transform_filter(chosen)).add_params(against)
    step = max(26, 13 * len(columns) + 6)
    chart = chart.properties(width="container", height=step * len(names))
    return Chart("Rows compared", note, with_data(chart, differences), width=330)


def parallel_coordinates(
    axes: Sequence[str], runs: Sequence[tuple[Sequence[Any], float]], metric: str, decimals: int
) -> Chart:
    """Return parallel coordinates: a line for each run through its values on the axes and its metric.

    Args:
        axes: names of what varied.
        runs: (a value for each axis, metric) of each finished run.
        metric: its title.
        decimals: of the metric.
    """
    names = [*axes, metric]
    records, labels = [], []
    for number, name in enumerate(names):
        values = [(*chosen, value)[number] for chosen, value in runs]
        heights, marks = scaled(values)
        labels += [{"axis": name, "height": height, "label": label} for label, height in marks]
        for run, (value, height) in enumerate(zip(values, heights, strict=True)):
            records.append({"axis": name, "height": height, "run": run, "value": str(value), "score": runs[run][1]})
    hover = alt.selection_point(fields=["run"], on="pointerover", clear="pointerout", nearest=False, empty=False)
    x = alt.X(
        "axis:N", sort=names, title=None, axis=alt.Axis(labelAngle=0, labelFontWeight="bold", domain=False, grid=True)
    )
    y = alt.Y("height:Q", axis=None, scale=alt.Scale(domain=[-0.04, 1.04]))
    lines = (
        alt.Chart()
        .mark_line(interpolate="monotone")
        .encode(
            x=x,
            y=y,
            detail="run:N",
            color=alt.Color(
                "score:Q", scale=alt.Scale(range=list(AMOUNTS)), title=metric, legend=alt.Legend(orient="top")
            ),
            opacity=alt.condition(hover, alt.value(1), alt.value(0.45)),
            strokeWidth=alt.condition(hover, alt.value(4), alt.value(1.6)),
            tooltip=["axis:N", "value:N", alt.Tooltip("score:Q", format=f".{decimals}f", title=metric)],
        )
        .add_params(hover)
    )
    ticks = (
        alt.Chart(alt.Data(values=labels)).mark_text(align="left", dx=6, fontSize=12).encode(x=x, y=y, text="label:N")
    )
    # A rim in the colour of the page keeps labels readable on lines.
    rims = ticks.mark_text(align="left", dx=6, fontSize=12, stroke="var(--paper)", strokeWidth=5, strokeJoin="round")
    chart = alt.layer(lines, rims, ticks).properties(width="container", height=300)
    note = "A line is a run; it passes through its values and ends at what it reached."
    return Chart("Every run", note, with_data(chart, records), width=140 * len(names))


def scaled(values: Sequence[Any]) -> tuple[list[float], list[tuple[str, float]]]:
    """Return each value's height in [0, 1] on an axis, and what is written beside the axis: few levels, or both ends."""
    levels = list(dict.fromkeys(values))
    numbers = [value for value in levels if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < len(levels) or len(levels) <= 6:
        ordered = sorted(numbers) if len(numbers) == len(levels) else levels
        heights = {value: place / max(1, len(ordered) - 1) for place, value in enumerate(ordered)}
        return [heights[value] for value in values], [(shown(value), height) for value, height in heights.items()]
    low, high = min(numbers), max(numbers)
    # Rates vary by factors.
    change = math.log if low > 0 and high / low > 50 else float
    height = {value: (change(value) - change(low)) / (change(high) - change(low)) for value in levels}
    return [height[value] for value in values], [(shown(low), 0.0), (shown(high), 1.0)]


def importance_chart(found: Importance, metric: str) -> Chart:
    """Return the importance of every axis as bars, with the spread over repetitions."""
    records = [
        {"axis": name, "mean": mean, "low": mean - spread, "high": mean + spread} for name, mean, spread in found.axes
    ]
    y = alt.Y("axis:N", sort=[name for name, _, _ in found.axes], title=None, axis=alt.Axis(ticks=False, domain=False))
    bars = (
        alt.Chart()
        .mark_bar(color=SERIES[0], opacity=0.55, height=14, cornerRadius=2)
        .encode(x=alt.X("mean:Q", title="loss of R²"), y=y)
    )
    spreads = alt.Chart().mark_rule(strokeWidth=2).encode(x="low:Q", x2="high:Q", y=y)
    chart = alt.layer(bars, spreads).properties(width="container", height=30 * len(records))
    return Chart("What matters", found.note(metric), with_data(chart, records), width=300)
