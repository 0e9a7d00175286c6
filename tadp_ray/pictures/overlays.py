"""Draws images, frames, text and legends on axes, readable in greyscale and with colour blindness."""

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke

from tadp_ray.pictures.colours import palette

Box = tuple[float, float, float, float]
"""Left, top, right and bottom edge in pixels."""


def show_image(axes: Axes, image: np.ndarray) -> None:
    """Draw an image (H, W, 3) without axes."""
    axes.imshow(image, interpolation="nearest")
    axes.set_axis_off()
    # Ticks that nobody sees would be made all the same.
    axes.set(xticks=[], yticks=[])


def frame(axes: Axes, box: Box, colour: np.ndarray | str) -> None:
    """Draw a box with a black outline, visible on any background."""
    left, top, right, bottom = box
    for width, ink in ((2.6, "black"), (1.4, colour)):
        rim = Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, edgecolor=ink, linewidth=width)
        axes.add_patch(rim)


def write(axes: Axes, place: tuple[float, float], words: str, **layout: str) -> None:
    """Draw black text with a white outline, readable on any background."""
    rim = [withStroke(linewidth=1.5, foreground="white")]
    # Text that extends beyond its panel must not shrink the panel.
    axes.text(*place, words, fontsize=6, path_effects=rim, **layout).set_in_layout(False)


def name_colours(figure: Figure, labels: Iterable[int], classes: Sequence[str]) -> None:
    """Add a legend of classes below a figure."""
    colours = palette(len(classes))
    patches = [
        Patch(facecolor=colours[i], edgecolor="black", linewidth=0.5, label=legend_name(short(classes[i])))
        for i in sorted(labels)
    ]
    if patches:
        columns = min(len(patches), max(2, int(figure.get_figwidth() / 1.1)))
        figure.legend(handles=patches, loc="outside lower center", ncols=columns, fontsize=7, frameon=False)


def legend_name(name: str) -> str:
    """Return a label for a legend. matplotlib omits labels that start with an underscore, so a space is added."""
    return f" {name}" if name.startswith("_") else name


def short(name: str) -> str:
    """Return the first name of a class. ADE20K has several, separated by semicolons or commas."""
    return name.replace(",", ";").partition(";")[0]
