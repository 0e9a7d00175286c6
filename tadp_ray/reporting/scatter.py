"""Draws per-image results: points, their binned means and the fitted line with its band, one panel per table row."""

import textwrap
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from tadp_ray.config.experiment import FigureConfig
from tadp_ray.config.vocabulary import Scale
from tadp_ray.pictures.colours import AMOUNTS
from tadp_ray.pictures.files import write_figure
from tadp_ray.reporting.matching import MATCH_RULES
from tadp_ray.reporting.regression import Line, Points
from tadp_ray.reporting.resampling import PERCENT

LABELS = {
    "recall": ("recall of the caption's names (%)", "mIoU of the image (%)"),
    "size": ("share of the image that the class covers (%)", "IoU of the class in the image (%)"),
}
BINS = 10


def draw_lines(figure: FigureConfig, lines: Mapping[str, Line | None], scale: Scale, path: Path) -> None:
    """Write the figure (PNG): one panel per row that has a line; a single empty panel if no row has one."""
    shown = {heading: line for heading, line in lines.items() if line} or {
        "no line: results are missing,\ntoo few, or all alike": None
    }
    drawn = Figure(figsize=(max(3.6 * len(shown), 4.4) + 0.6, 3.9), layout="constrained", dpi=150)
    panels = drawn.subplots(1, len(shown), squeeze=False, sharey=True, sharex=True)[0]
    for panel, (heading, line) in zip(panels, shown.items(), strict=True):
        panel.set_title(f"{heading}\n{line.text}" if line else heading, fontsize=10)
        panel.set_xlabel(LABELS[figure.kind][0])
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
        if line:
            draw_line(panel, line)
    panels[0].set_ylim(-2, 102)
    panels[0].xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=""))
    panels[0].set_ylabel(LABELS[figure.kind][1])
    published = f"; published: r = {figure.published.r:.2f}" if figure.published else ""
    rule = [f"a caption names a class by {MATCH_RULES[figure.match_at(scale)]}"] if figure.kind == "recall" else []
    heading = (figure.title, f"ours ({scale} scale){published}", *rule)
    drawn.suptitle("\n".join(textwrap.fill(line, 34 + 38 * (len(shown) - 1)) for line in heading), fontsize=11)
    handles, labels = next((p.get_legend_handles_labels() for p in panels if p.lines), ([], []))
    if handles:
        drawn.legend(handles, labels, loc="outside lower center", ncols=len(handles), fontsize=8, frameon=False)
    write_figure(drawn, path)


def draw_line(axes: Axes, line: Line) -> None:
    """Draw points, means, line and band."""
    points, colour = line.points, AMOUNTS(0.25)
    # Many points overlap, so more points are drawn fainter.
    alpha = float(np.clip(120 / len(points.x), 0.04, 0.5))
    axes.scatter(points.x, points.y, s=9, color=colour, alpha=alpha, linewidths=0, label="_")
    axes.fill_between(line.x, *line.band, color=AMOUNTS(0.8), alpha=0.45, linewidth=0, label=f"{PERCENT} % band")
    axes.plot(line.x, line.y, color="black", linewidth=1.6, label="least squares")
    axes.plot(*means(points), "o", color="white", markeredgecolor="black", markersize=5, label=f"means of {BINS} bins")


def means(points: Points) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean x and y of the points in each non-empty bin of BINS equal bins of the x axis."""
    edges = np.linspace(points.x.min(), points.x.max(), BINS + 1)[1:-1]
    bins = np.digitize(points.x, edges)
    count = np.bincount(bins, minlength=BINS)
    filled = count > 0
    x, y = (np.bincount(bins, values, BINS)[filled] / count[filled] for values in (points.x, points.y))
    return x, y
