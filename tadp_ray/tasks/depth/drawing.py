"""Draws depth maps in a common colour range, with a colour bar."""

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from torch import Tensor

from tadp_ray.pictures.colours import AMOUNTS

DEPTH = AMOUNTS.reversed().with_extremes(bad="white")
"""Near is light; missing depth is white."""


def draw_depth(
    axes: Sequence[Axes], image: np.ndarray, found: Sequence[Tensor], classes: Sequence[str], beside: Sequence[Axes]
) -> set[int]:
    """Draw depth maps (H, W) in the range of the first, with a colour bar beside other axes (`Draw`); return no classes."""
    maps = [metres.numpy() for metres in found]
    span = span_of(maps[0])
    for axis, metres in zip(axes, maps, strict=True):
        show_depth(axis, metres, span)
    show_scale(axes[0].figure, beside, span)
    return set()


def span_of(metres: np.ndarray) -> LogNorm | None:
    """Return the colour range of a true depth map (H, W); None if all depth is missing."""
    known = metres[is_known(metres)]
    return LogNorm(known.min(), max(known.max(), 1.01 * known.min()), clip=True) if known.size else None


def is_known(metres: np.ndarray) -> np.ndarray:
    """Return where a depth map (H, W) has depth; elsewhere it is 0, or not finite, as in some files."""
    return np.isfinite(metres) & (metres > 0)


def show_depth(axes: Axes, metres: np.ndarray, span: LogNorm | None) -> None:
    """Draw a depth map (H, W); missing depth is white."""
    axes.imshow(np.where(is_known(metres), metres, np.nan), cmap=DEPTH, norm=span, interpolation="nearest")
    axes.set_axis_off()


def show_scale(figure: Figure, beside: Iterable[Axes], span: LogNorm | None) -> None:
    """Draw the colour bar of depth maps, in metres."""
    if span is None:
        return
    steps = [digit * 10.0**power for power in range(-2, 4) for digit in (1, 2, 5)]
    ticks = [span.vmin, *(step for step in steps if 1.3 * span.vmin < step < span.vmax / 1.3), span.vmax]
    bar = figure.colorbar(ScalarMappable(span, DEPTH), ax=list(beside), fraction=0.02, pad=0.01, ticks=ticks)
    bar.ax.minorticks_off()
    bar.ax.set_yticklabels([f"{tick:.2g} m" for tick in ticks], fontsize=6)
    bar.ax.invert_yaxis()
