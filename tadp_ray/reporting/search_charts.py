"""Interactive charts of what varied between runs: a line for each run through its values, and how much each axis matters."""

import math
from collections.abc import Sequence
from typing import Any

import altair as alt

from tadp_ray.reporting.charts import SERIES, Chart, with_data
from tadp_ray.reporting.importance import Importance
from tadp_ray.wording import shown

AMOUNTS = ("#3E6FB0", "#8C8C8C", "#E07A1F")
"""From low to high for thin lines, which cividis would hide on a dark or on a light page."""


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
        "axis:N",
        sort=names,
        title=None,
        axis=alt.Axis(labelAngle=0, labelFontWeight="bold", labelLimit=130, domain=False, grid=True),
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
    style = {"align": "left", "dx": 6, "fontSize": 12, "limit": alt.expr(f"width / {len(names)} - 14")}
    ticks = alt.Chart(alt.Data(values=labels)).mark_text(**style).encode(x=x, y=y, text="label:N")
    # A rim in the colour of the page keeps labels readable on lines.
    rims = ticks.mark_text(**style, stroke="var(--paper)", strokeWidth=5, strokeJoin="round")
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
