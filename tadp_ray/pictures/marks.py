"""Images, label maps, depth maps and boxes on axes, so that they can be read in grey and by colour-blind people."""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke

from tadp_ray.data.sample import IGNORE
from tadp_ray.pictures.colours import AMOUNTS, paint, palette

Box = tuple[float, float, float, float]
"""Left, top, right and bottom edge in pixels."""
ROOM = 0.07
"""How far from a region's middle its edge must lie for its name to be written there, as a share of the image's shorter side."""
DEPTH = AMOUNTS.reversed().with_extremes(bad="white")
"""Near is light; white where there is no reading."""


def show_image(axes: Axes, image: np.ndarray) -> None:
    """An image (H, W, 3) without axes."""
    axes.imshow(image, interpolation="nearest")
    axes.set_axis_off()


def show_labels(axes: Axes, labels: np.ndarray, classes: Sequence[str]) -> set[int]:
    """A label map (H, W) with the names of its larger regions written on them; returns the classes that it shows."""
    show_image(axes, paint(labels, len(classes)))
    shown = set(np.unique(labels).tolist()) - {IGNORE}
    for label in shown:
        # A border of nothing, so that the image's edge is the region's edge.
        inside = cv2.distanceTransform(np.pad(labels == label, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
        row, column = np.unravel_index(inside.argmax(), inside.shape)
        if inside[row, column] >= ROOM * min(labels.shape):
            write(axes, (column, row), short(classes[label]), horizontalalignment="center", verticalalignment="center")
    return shown


def span_of(metres: np.ndarray) -> LogNorm | None:
    """The colour range of a true depth map (H, W), 0 = no reading; None if it has no reading."""
    known = metres[metres > 0]
    return LogNorm(known.min(), max(known.max(), 1.01 * known.min()), clip=True) if known.size else None


def show_depth(axes: Axes, metres: np.ndarray, span: LogNorm | None) -> None:
    """A depth map (H, W), places without a reading white."""
    axes.imshow(np.where(metres > 0, metres, np.nan), cmap=DEPTH, norm=span, interpolation="nearest")
    axes.set_axis_off()


def show_scale(figure: Figure, beside: Iterable[Axes], span: LogNorm | None) -> None:
    """The colours of depth maps, with metres at them."""
    if span is None:
        return
    steps = [digit * 10.0**power for power in range(-2, 4) for digit in (1, 2, 5)]
    ticks = [span.vmin, *(step for step in steps if 1.3 * span.vmin < step < span.vmax / 1.3), span.vmax]
    bar = figure.colorbar(ScalarMappable(span, DEPTH), ax=list(beside), fraction=0.02, pad=0.01, ticks=ticks)
    bar.ax.minorticks_off()
    bar.ax.set_yticklabels([f"{tick:.2g} m" for tick in ticks], fontsize=6)
    bar.ax.invert_yaxis()


def show_boxes(axes: Axes, image: np.ndarray, boxes: Iterable[tuple[Box, int, str]], classes: Sequence[str]) -> None:
    """Boxes with class index and words over the grey image."""
    show_image(axes, np.repeat(0.35 + 0.65 * image.mean(2, keepdims=True) / 255, 3, 2))
    for box, label, words in boxes:
        frame(axes, box, palette(len(classes))[label])
        write(axes, (max(box[0], 0), box[1]), words, verticalalignment="bottom")


def frame(axes: Axes, box: Box, colour: np.ndarray | str) -> None:
    """A box with a black rim, which is seen on any ground."""
    left, top, right, bottom = box
    for width, ink in ((2.6, "black"), (1.4, colour)):
        rim = Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, edgecolor=ink, linewidth=width)
        axes.add_patch(rim)


def write(axes: Axes, place: tuple[float, float], words: str, **layout: str) -> None:
    """Black words with a white rim, which are read on any ground."""
    rim = [withStroke(linewidth=1.5, foreground="white")]
    # What reaches beyond its panel must not make the panel smaller.
    axes.text(*place, words, fontsize=6, path_effects=rim, **layout).set_in_layout(False)


def name_colours(figure: Figure, labels: Iterable[int], classes: Sequence[str]) -> None:
    """Name the classes that a figure shows, below it."""
    colours = palette(len(classes))
    patches = [
        Patch(facecolor=colours[i], edgecolor="black", linewidth=0.5, label=legend_name(short(classes[i])))
        for i in sorted(labels)
    ]
    if patches:
        columns = min(len(patches), max(2, int(figure.get_figwidth() / 1.1)))
        figure.legend(handles=patches, loc="outside lower center", ncols=columns, fontsize=7, frameon=False)


def legend_name(name: str) -> str:
    """A name as a legend shows it; matplotlib leaves out what begins with an underscore."""
    return f" {name}" if name.startswith("_") else name


def short(name: str) -> str:
    """The first of a class's names, of which ADE20K has several, apart by semicolons or commas."""
    return name.replace(",", ";").partition(";")[0]
