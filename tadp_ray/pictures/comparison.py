"""A comparison of systems on the same images: predictions, scores and drawing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Folders = Mapping[str, Path]
"""Folders of predictions by system. The first system is compared with the others."""
PixelScore = Callable[[Tensor, Tensor], Tensor]
"""(prediction, ground truth) -> score of each pixel (H, W), higher is better, 0 where it is not scored."""


class Draw(Protocol):
    """Draws the ground truth and predictions of a task."""

    def __call__(
        self,
        axes: "Sequence[Axes]",
        image: np.ndarray,
        results: Sequence[Any],
        classes: Sequence[str],
        neighbours: "Sequence[Axes]",
        /,
    ) -> set[int]:
        """Draw predictions for an image, and return the indices of the drawn classes.

        Args:
            axes: one for each of `results`.
            image: (H, W, 3) uint8.
            results: maps (H, W) or sets of boxes. The first one, which is the ground truth if there is one, sets the range of
                a colour scale.
            classes: names by class index.
            neighbours: axes next to which a colour scale is drawn, if the task has one.
        """
        ...


@dataclass(frozen=True)
class ImageScore:
    """The score of a single image."""

    meaning: str
    """Description, with the direction: higher is better."""
    text: str
    """Format string of its absolute value in panels."""
    pixels: str = ""
    """Description of the pixel score, whose sums select windows. Empty: no windows are framed."""

    def shown(self, value: float) -> str:
        """Return a score as panels show it."""
        return self.text.format(abs(value))


@dataclass(frozen=True)
class Comparison:
    """S systems on N images."""

    classes: tuple[str, ...]
    """Class names in index order; empty if the task has none."""
    systems: tuple[str, ...]
    ids: tuple[str, ...]
    score: ImageScore
    scores: np.ndarray
    """(S, N), a score per system and image, higher is better; NaN where an image cannot be scored."""
    images: Mapping[str, Path]
    """Image files by id."""
    read: Callable[[int, str], tuple[Any, Any]]
    """(system, id) -> (prediction, ground truth): maps (H, W), or other objects that `draw` takes."""
    draw: Draw
    pixel_score: PixelScore | None = None
    """None: predictions are not maps."""
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """(height, width) in pixels of the image whose ground truth is no map, by image id, where it is known."""
    captions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The prompt of each system by image id, shown beside its prediction; empty: none are shown."""
