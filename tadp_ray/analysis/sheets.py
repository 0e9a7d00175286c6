"""Pictures of an analysis: maps over images, matrices, curves. PNG for the page and PDF for LaTeX."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tadp_ray.analysis.attention import Attention

ACROSS = 8
"""Maps beside each other."""


def overlay(axes: Axes, image: np.ndarray, scores: np.ndarray, title: str = "") -> None:
    """A map (H, W) over the grey picture, each map from its lowest value to its highest."""
    axes.imshow(image.mean(axis=2), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.imshow(scores, cmap="inferno", alpha=0.6, interpolation="nearest")
    axes.set_title(title, fontsize=9)


def tallest(images: Sequence[np.ndarray]) -> float:
    """Height over width of the tallest picture, within what a page bears: how high a row of them is."""
    return float(np.clip(max((image.shape[0] / image.shape[1] for image in images), default=1), 0.4, 2.5))


def attention_sheet(attention: Attention) -> Figure:
    """Each word's map over the image: a row for all layers and, as long as the words fit into it, for each resolution."""
    words, image = list(attention.words), attention.image
    rows: dict[str, Mapping[str, np.ndarray]] = {f"all {len(attention.layers)} layers": attention.words}
    if len(words) < ACROSS:
        rows |= attention.by_size
    blocks = [words[first : first + ACROSS - 1] for first in range(0, len(words), ACROSS - 1)]
    across = 1 + max(map(len, blocks))
    height = 0.6 + (1.5 * tallest([image]) + 0.3) * len(rows) * len(blocks)
    figure = Figure(figsize=(1.5 * across, height), layout="constrained", dpi=150)
    grid = figure.subplots(len(rows) * len(blocks), across, squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    lines = iter(grid)
    for block in blocks:
        for name, maps in rows.items():
            line = next(lines)
            line[0].imshow(image, interpolation="nearest")
            line[0].set_title(name, fontsize=9)
            for axes, word in zip(line[1:], block, strict=False):
                overlay(axes, image, maps[word], word)
    figure.suptitle("\n".join(textwrap.wrap(attention.prompt, 14 * across)), fontsize=10)
    return figure
