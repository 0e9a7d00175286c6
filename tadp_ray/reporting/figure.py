"""Draws a table as heat maps, ours and the published numbers, and the learning curves of its cells, as pictures.

They are drawn apart from the page's charts: in a picture nothing can be pointed at, so that names are wrapped instead of cut off
and a bar says what the colours are. Rendering Vega-Lite would also take longer and more memory.
"""

import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tadp_ray.config.cell import Cell
from tadp_ray.config.metrics import lower_is_better
from tadp_ray.config.table import TableSpec
from tadp_ray.pictures.colours import AMOUNTS
from tadp_ray.pictures.files import write_figure
from tadp_ray.pictures.overlays import legend_name
from tadp_ray.reporting.shades import colours_note, quantities, quantity, quantity_title, ranges, shades
from tadp_ray.reporting.table import Table, metric_label
from tadp_ray.tracking.query import Curve

PANELS_ACROSS = 6
"""Panels of learning curves side by side, at most."""
MAX_LINE = 24
"""Characters in a line of a label."""
LINE_STYLES = ("-", "--", ":", "-.")


def draw_table(table: Table, path: Path) -> None:
    """Write heat maps (PNG) of our means and, if there are several, of the published numbers.

    Each map has its own colour range, since only the pattern is comparable between scales.
    """
    spec = table.spec
    ours = np.array([[entry.mean for entry in row] for row in table.entries])
    texts = [[entry.text.replace(" (", "\n(") for entry in row] for row in table.entries]
    complete = np.array([[entry.complete for entry in row] for row in table.entries])
    maps = [(f"ours ({spec.scale} scale)", ours, texts, complete)]
    if table.published_pattern:
        theirs = [[entry.published_text for entry in row] for row in table.entries]
        values = [[math.nan if e.published is None else e.published for e in row] for row in table.entries]
        maps.append(("published", np.array(values), theirs, np.full_like(complete, True)))
    # Long row names need room beside the map.
    longest = max(len(line) for name in spec.rows.names for line in wrap_name(name).splitlines() or [""])
    size = (1.6 + 1.35 * len(spec.columns.names) + 0.08 * max(0, longest - 12), 1.3 + 0.8 * len(spec.rows.names))
    figure = Figure(figsize=(size[0] * len(maps), size[1]), layout="constrained", dpi=150)
    for axes, drawn in zip(figure.subplots(1, len(maps), squeeze=False)[0], maps, strict=True):
        draw_map(axes, spec, *drawn)
    figure.suptitle(textwrap.fill(spec.title, max(20, int(12 * size[0] * len(maps)))), fontsize=11)
    write_figure(figure, path)


def wrap_name(name: str) -> str:
    """Break a name into lines: one per value, and none longer than MAX_LINE."""
    return "\n".join(textwrap.fill(part, MAX_LINE) for part in name.replace(", ", ",\n").split("\n"))


def draw_map(
    axes: Axes, spec: TableSpec, title: str, values: np.ndarray, texts: Sequence[Sequence[str]], complete: np.ndarray
) -> None:
    """Draw one heat map with its numbers, the brighter the better; missing entries are grey, incomplete ones set no range.

    A bar says what the colours are, or words where several quantities have a range each.
    """
    flat = values.ravel().tolist(), complete.ravel().tolist()
    shaded = np.array(shades(spec, *flat)).reshape(values.shape)
    # Numbers need wide cells rather than square ones.
    colours = AMOUNTS.with_extremes(bad="0.85")
    axes.imshow(np.ma.masked_invalid(shaded), cmap=colours, vmin=0, vmax=1, aspect="auto")
    for (i, j), value in np.ndenumerate(shaded):
        dark = math.isfinite(value) and value < 0.5
        axes.text(j, i, texts[i][j], ha="center", va="center", fontsize=8.5, color="white" if dark else "black")
    for ticks, side in ((axes.set_xticks, spec.columns), (axes.set_yticks, spec.rows)):
        ticks(range(len(side.names)), [wrap_name(name) for name in side.names])
    axes.set_xlabel(spec.columns.label)
    axes.set_ylabel(spec.rows.label)
    axes.set_title(title, fontsize=10)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if quantities(spec)[1:]:
        axes.set_title("\n".join([title, textwrap.fill(colours_note(spec), 36)]), fontsize=10)
    elif spans := ranges(spec, *flat):
        add_bar(axes, spec, *spans[quantity(spec.metrics[0])])


def add_bar(axes: Axes, spec: TableSpec, low: float, high: float) -> None:
    """Add the bar of a heat map's colours from its least to its largest value, bright where values are good."""
    colours = AMOUNTS.reversed() if lower_is_better(spec.metrics[0]) else AMOUNTS
    middle = (low, high) if high > low else (low - 0.5, low + 0.5)
    bar = ScalarMappable(Normalize(*middle), colours)
    axes.figure.colorbar(bar, ax=axes, label=quantity_title(spec, quantity(spec.metrics[0])), shrink=0.85)


def draw_curves(spec: TableSpec, cells: Sequence[Cell], curves: Mapping[str, Curve], path: Path) -> None:
    """Write learning curves (PNG): one panel per row value, one colour per column value, one line style per seed.

    Args:
        spec: the table's layout.
        cells: the cells to draw.
        curves: (step, value) of the metric by fingerprint; cells without a curve are skipped.
        path: where to write.
    """
    metric, seeds = spec.metrics[0], sorted({cell.seed for cell in cells})
    drawn = [(cell, curve) for cell in cells if (curve := curves.get(cell.fingerprint))]
    rows = sorted({spec.place(cell, metric)[0] for cell, _ in drawn})
    across = min(len(rows), PANELS_ACROSS)
    down = math.ceil(len(rows) / across)
    figure = Figure(figsize=(1.2 + 2.9 * across, 0.4 + 2.8 * down), layout="constrained", dpi=150)
    grid = figure.subplots(down, across, squeeze=False, sharey=True)
    panels = dict(zip(rows, grid.flat, strict=False))
    for cell, curve in drawn:
        row, column = spec.place(cell, metric)
        panels[row].plot(
            *zip(*curve, strict=True),
            color=AMOUNTS(0.9 * column / max(1, len(spec.columns.names) - 1)),
            linestyle=LINE_STYLES[seeds.index(cell.seed) % len(LINE_STYLES)],
            marker="o",
            markersize=3,
            label=legend_name(spec.columns.names[column]),
        )
    for panel in grid.flat[len(rows) :]:
        panel.set_axis_off()
    for row, panel in panels.items():
        panel.set_title(spec.rows.headings[row], fontsize=10)
        panel.set_xlabel("step")
        panel.set_xlim(left=0)
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in grid[:, 0]:
        panel.set_ylabel(metric_label(spec))
    lines = {line.get_label(): line for panel in panels.values() for line in reversed(panel.get_lines())}
    names = [name for name in map(legend_name, spec.columns.names) if name in lines]
    handles = [lines[name] for name in names]
    if len(seeds) > 1:
        names += [f"seed {seed}" for seed in seeds]
        styles = itertools.islice(itertools.cycle(LINE_STYLES), len(seeds))
        handles += [Line2D([], [], color="grey", linestyle=style) for style in styles]
    figure.legend(handles, names, title=spec.columns.label, loc="outside center right", fontsize=8, frameon=False)
    figure.suptitle(spec.title, fontsize=11)
    write_figure(figure, path)
