"""Interactive charts of a table, as Vega-Lite specifications: heat maps, learning curves and compared rows.

A page draws them with Vega's own library, which it holds once. Data are added after Altair has checked a chart's grammar,
since checking every record would take longer than all else. Colours of text and lines are the page's, see `report.js`.
"""

import json
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import altair as alt
import vl_convert
from markupsafe import Markup

from tadp_ray.config.metrics import base_metric, lower_is_better
from tadp_ray.config.table import Side, TableSpec
from tadp_ray.config.vocabulary import METRIC
from tadp_ray.files import finite
from tadp_ray.reporting.shades import colours_note, metrics_by_place, quantities, quantity, quantity_title, shades
from tadp_ray.reporting.table import Place, Table, metric_label
from tadp_ray.tracking.query import Curve

Records = Sequence[Mapping[str, Any]]
SERIES = ("#1E86C8", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C8C8C")
"""Okabe and Ito's colours without yellow, which a white page hides, with a lighter blue for dark pages, and grey."""
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
    return {**spec, "data": {"values": finite([*records])}}


def series(names: Sequence[str]) -> alt.Scale:
    """Return the colours of named lines."""
    colours = [SERIES[number % len(SERIES)] for number in range(len(names))]
    return alt.Scale(domain=list(names), range=colours)


def legend_of(names: Sequence[str], beside: int) -> alt.Legend:
    """Return a legend above a chart, in as many columns as fit and at least one; no name is wider than the chart.

    Args:
        names: of the lines or points.
        beside: pixels left of the chart's own area, above which the legend lies.
    """
    # `width` is that of the area itself, which the height of the legend has to be known for.
    room = f"((containerSize()[0] || 300) - {beside})"
    columns = alt.ExprRef(f"max(1, floor({room} / {legend_width(names)}))")
    return alt.Legend(orient="top", columns=columns, labelLimit=alt.ExprRef(f"{room} - 30"))


def legend_width(names: Sequence[str]) -> int:
    """Return the pixels of the longest name in a legend, or of its first 40 characters."""
    return 30 + 7 * min(40, max(map(len, names)))


def heat_maps(table: Table, place_id: str) -> list[Chart]:
    """Return a heat map of our means and, if there are several, one of the published numbers.

    Each has its own range of colours, since only the pattern is comparable between scales. A click on an entry of ours gives its
    `place`: `place_id` followed by row and column.
    """
    spec = table.spec
    entries = [(i, j, entry) for i, row in enumerate(table.entries) for j, entry in enumerate(row)]
    ours = [{"place": f"{place_id}-{i}-{j}", "value": entry.mean, **in_lines(entry.text)} for i, j, entry in entries]
    maps = [heat_map(spec, f"ours, {spec.scale} scale", ours, [entry.complete for _, _, entry in entries])]
    if table.published_pattern:
        theirs = [
            {"value": math.nan if entry.published is None else entry.published, **in_lines(entry.published_text)}
            for _, _, entry in entries
        ]
        maps.append(heat_map(spec, "published", theirs, [True] * len(theirs)))
    return maps


def in_lines(text: str) -> dict[str, str]:
    """Return an entry's text, whole and in the two lines of its square: the number, and what follows it."""
    first, _, second = text.partition(" ")
    return {"text": text, "first": first, "second": second}


def heat_map(spec: TableSpec, title: str, values: Records, complete: Sequence[bool]) -> Chart:
    """Return one heat map of values, row by row; missing ones have no colour, and incomplete ones do not set its range."""
    columns, found = len(spec.columns.names), shades(spec, [own["value"] for own in values], complete)
    records = [
        # Rows and columns by number, since names may be equal.
        {**own, "row": number // columns, "column": number % columns, "shade": shade, "dark": shade < 0.5}
        | {"rows": spec.rows.names[number // columns], "columns": spec.columns.names[number % columns]}
        for number, (own, shade) in enumerate(zip(values, found, strict=True))
    ]
    across = [wrapped(name, 16, 4) for name in spec.columns.names]
    down = [wrapped(name, 28, 2) for name in spec.rows.names]
    base = squares(spec, across, down)
    missing = "!isValid(datum.value)"
    clickable = {"cursor": "pointer"} if "place" in values[0] else {}
    colour = alt.condition(
        missing,
        alt.value("transparent"),
        alt.Color("shade:Q", scale=alt.Scale(scheme="cividis", domain=[0, 1]), legend=None),
    )
    shaded = base.mark_rect(cornerRadius=3, **clickable).encode(color=colour)
    ink = alt.condition("datum.dark", alt.value("#ffffff"), alt.value("#101418"))

    def words(line: str, only: str, **style: Any) -> alt.Chart:
        """Return one line of every entry's text, of those entries that fulfil a condition."""
        return base.mark_text(**style, **clickable).encode(text=f"{line}:N").transform_filter(only)

    chart = alt.layer(
        shaded,
        words("first", "isValid(datum.value) && !datum.second", fontSize=13).encode(color=ink),
        words("first", "isValid(datum.value) && datum.second", fontSize=13, dy=-7).encode(color=ink),
        words("second", "isValid(datum.value) && datum.second", fontSize=11, dy=9).encode(color=ink),
        words("text", missing),
    ).properties(width="container", height=48 * len(spec.rows.names) + 4)
    width = 60 + 7 * longest(down) + max(62, 7 * longest(across) + 8) * columns
    return Chart(title, colours_note(spec), with_data(chart, records), width=width)


def squares(spec: TableSpec, across: Sequence[Sequence[str]], down: Sequence[Sequence[str]]) -> alt.Chart:
    """Return a chart of a table's entries in rows and columns, whose names are in lines, without marks."""
    most = max(map(len, across))
    columns = named_axis(
        # Lines grow downwards from the first one; all end above the squares.
        [[""] * (most - len(own)) + [*own] for own in across],
        orient="top",
        labelAngle=0,
        labelLineHeight=14,
        labelPadding=14 * most - 12,
    )
    return alt.Chart().encode(
        x=alt.X("column:O", title=spec.columns.label, axis=columns),
        y=alt.Y("row:O", title=spec.rows.label, axis=named_axis(down)),
        tooltip=[
            alt.Tooltip("rows:N", title=spec.rows.label),
            alt.Tooltip("columns:N", title=spec.columns.label),
            # One of several metrics is named by its row or column.
            alt.Tooltip("text:N", title="value" if spec.metrics[1:] else metric_label(spec)),
        ],
    )


def wrapped(name: str, width: int, lines: int) -> list[str]:
    """Return a name in lines of at most `width` characters; what is left after so many lines becomes an ellipsis."""
    return textwrap.wrap(name, width, max_lines=lines, placeholder=" …") or [""]


def longest(names: Sequence[Sequence[str]]) -> int:
    """Return the characters of the longest line of several names."""
    return max(len(line) for name in names for line in name)


def named_axis(names: Sequence[Sequence[str]], **options: Any) -> alt.Axis:
    """Return the axis of numbered rows or columns that shows their names, each in lines."""
    # An array of Vega's expression language is JSON.
    return alt.Axis(labelExpr=f"{json.dumps(names)}[datum.value]", labelLimit=0, domain=False, ticks=False, **options)


def curve_records(curves: Mapping[int, Curve]) -> list[dict[str, Any]]:
    """Return the points of one entry's curves by seed; numbers that are not finite are missing."""
    return [
        {"seed": seed, "step": step, "value": finite(value)} for seed, curve in curves.items() for step, value in curve
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
    known = [v for own in curves.values() for curve in own.values() for _, v in curve if math.isfinite(v)]
    if not known:
        return []
    rows, columns = without_metric(spec.rows), without_metric(spec.columns)
    names = [columns.names[column] for column in sorted({place[1] for place in curves})]
    legend = legend_of(names, 60) if names[1:] else None
    colour = alt.Color("column:N", scale=series(names), title=columns.label, legend=legend)
    y = alt.Y("value:Q", title=title, scale=alt.Scale(domain=[min(known), max(known)], nice=True))
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
        width = max(260, 60 + legend_width(names)) if legend else 260
        panels.append(Chart(rows.headings[row] if rows.keys else title, "", filled(chart, records), width))
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


def compared_rows(spec: TableSpec, measured: str, differences: Records, note: str) -> Chart:
    """Return the chart of every row's difference to a row that the reader chooses, with intervals.

    Its title names that row, since paper shows no field to choose it in.

    Args:
        spec: the table's layout.
        measured: the quantity, which the columns of several metrics have in common.
        differences: with row, against, column, difference, low, high (None without an interval) and apart.
        note: what the intervals are.
    """
    names, of_column = list(spec.rows.headings), metrics_by_place(spec)
    columns = [own for j, own in enumerate(spec.columns.headings) if quantity(of_column[j]) == measured]
    form = f"+.{base_metric(measured).decimals}f"
    lines = [wrapped(name, 28, 2) for name in names]
    shown_names = f"{json.dumps(dict(zip(names, lines, strict=True)))}[datum.value]"
    axis = alt.Axis(labelExpr=shown_names, labelLimit=0, ticks=False, domain=False)
    against = alt.param(name="against", value=names[0], bind=alt.binding_select(options=names, name="compared with "))
    base = alt.Chart().encode(
        y=alt.Y("row:N", sort=names, title=None, axis=axis),
        yOffset=alt.YOffset("column:N", sort=columns),
        tooltip=[
            "row:N",
            "against:N",
            "column:N",
            *(alt.Tooltip(f"{own}:Q", format=form) for own in ("difference", "low", "high")),
        ],
    )
    colour = series(columns)
    beside = 30 + 7 * longest(lines)
    legend = legend_of(columns, beside) if columns[1:] else None
    chosen = "datum.against === against"
    bars = base.mark_rule(strokeWidth=2).encode(
        x=alt.X("low:Q", title=None),
        x2="high:Q",
        stroke=alt.Stroke("column:N", scale=colour, title=None, legend=legend),
    )
    points = base.mark_point(size=56, strokeWidth=2).encode(
        x=alt.X("difference:Q", title=None),
        stroke=alt.Stroke("column:N", scale=colour, title=None, legend=legend),
        fill=alt.Fill("column:N", scale=colour, title=None, legend=legend),
        fillOpacity=alt.condition("datum.apart", alt.value(1), alt.value(0)),
    )
    zero = alt.Chart(alt.Data(values=[{"zero": 0}])).mark_rule(strokeDash=[3, 3]).encode(x="zero:Q")
    chart = alt.layer(zero, bars.transform_filter(chosen), points.transform_filter(chosen)).add_params(against)
    better = "left" if lower_is_better(measured) else "right"
    said = [f"difference of {quantity_title(spec, measured)}: {better} is better", "compared with "]
    title = alt.Title(
        alt.expr(f"[{json.dumps(said[0])}, {json.dumps(said[1])} + against]"),
        orient="bottom",
        frame="bounds",
        offset=12,
        limit=330,
    )
    step = max(26, 13 * len(columns) + 6)
    chart = chart.properties(title=title, width="container", height=step * len(names))
    named = f"Rows compared: {quantity_title(spec, measured)}" if quantities(spec)[1:] else "Rows compared"
    return Chart(
        named, note, with_data(chart, differences), width=max(330, beside + (legend_width(columns) if legend else 120))
    )
