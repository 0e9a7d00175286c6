"""Draws attention maps over images."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from tadp_ray.paper.analysis.attention import Attention
from tadp_ray.paper.localisation import is_uniform

ACROSS = 8
"""Columns of a sheet."""
MAPS, ALPHA, FAINT = "inferno", 0.6, "0.6"
"""Colour map and opacity of maps, and the colour of words with an uninformative map."""


def relative(scores: np.ndarray) -> np.ndarray:
    """Return a map (H, W) relative to a uniform map with the same sum."""
    return scores / scores.mean()


def highest(maps: Iterable[np.ndarray]) -> float:
    """Return the maximum of a common colour scale, relative to a uniform map; 2 if all maps are uninformative."""
    return max((float(relative(scores).max()) for scores in maps if not is_uniform(scores)), default=2.0)


def overlay(axes: Axes, image: np.ndarray, scores: np.ndarray, top: float, title: str = "") -> None:
    """Draw a map (H, W) over the grey image, in colours from the value of a uniform map to `top` times that.

    An uninformative map is not drawn, only labelled in grey, since its colours would suggest that some places matter.
    """
    grey = image.mean(axis=2)
    if is_uniform(scores):
        axes.imshow(128 + grey / 2, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_title(f"{title}: uniform" if title else "uniform", fontsize=9, color=FAINT)
        return
    axes.imshow(grey, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.imshow(relative(scores), cmap=MAPS, vmin=1, vmax=top, alpha=ALPHA, interpolation="nearest")
    axes.set_title(title, fontsize=9)


def show_scale(figure: Figure, beside: Iterable[Axes], top: float) -> None:
    """Draw the colour bar of maps."""
    colours = ScalarMappable(Normalize(1, top), MAPS)
    bar = figure.colorbar(colours, ax=list(beside), fraction=0.02, pad=0.01, shrink=0.9, alpha=ALPHA, extend="min")
    bar.set_label("times a uniform map", fontsize=7)
    bar.ax.tick_params(labelsize=6)


def tallest(images: Sequence[np.ndarray]) -> float:
    """Return the largest ratio of height to width of the images, clipped to [0.4, 2.5]; it sets the height of a row."""
    return float(np.clip(max((image.shape[0] / image.shape[1] for image in images), default=1), 0.4, 2.5))


def attention_sheet(attention: Attention) -> Figure:
    """Draw each word's map over the image: a row for all layers and, if the words fit into one row, for each resolution.

    The words of a row share a colour scale; a word with an uninformative map is grey.
    """
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
    tops = {name: highest(maps[word] for word in words) for name, maps in rows.items()}
    for block in blocks:
        for name, maps in rows.items():
            line = next(lines)
            line[0].imshow(image, interpolation="nearest")
            line[0].set_title(name, fontsize=9)
            for axes, word in zip(line[1:], block, strict=False):
                overlay(axes, image, maps[word], tops[name], word)
            show_scale(figure, line, tops[name])
    figure.suptitle("\n".join(textwrap.wrap(attention.prompt, 14 * across)), fontsize=10)
    return figure
