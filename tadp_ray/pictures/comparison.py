"""Systems on the same images: what every one makes of an image, how good that is, and how it is drawn."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

Folders = Mapping[str, Path]
"""Predictions by the name of their system; the others are held against the first."""
PixelScore = Callable[[Tensor, Tensor], Tensor]
"""(prediction, truth) -> how good each pixel is (H, W), 0 where it is not scored."""


class Draw(Protocol):
    """How truths and predictions of a task are drawn."""

    def __call__(
        self,
        axes: Sequence[Axes],
        image: np.ndarray,
        found: Sequence[Any],
        classes: Sequence[str],
        beside: Sequence[Axes],
        /,
    ) -> set[int]:
        """Draw what was found in an image, and return the indices of the classes that are shown.

        Args:
            axes: one for each of `found`.
            image: (H, W, 3) uint8.
            found: maps (H, W) or sets of boxes; the first, the truth where there is one, says which value has which colour.
            classes: names by class index.
            beside: axes to put a scale beside, if there is one.
        """
        ...


@dataclass(frozen=True)
class ImageScore:
    """What an image is scored by, alone."""

    meaning: str
    """In words, and that higher is better."""
    text: str
    """A format of its amount, as panels show it."""
    pixels: str = ""
    """What is summed over windows to find those in which systems differ; none: no windows are framed."""


@dataclass(frozen=True)
class Comparison:
    """S systems on N images."""

    classes: tuple[str, ...]
    """In index order; none where the task knows none."""
    systems: tuple[str, ...]
    ids: tuple[str, ...]
    score: ImageScore
    scores: np.ndarray
    """(S, N), of each image alone, higher is better; NaN where an image has nothing to be scored."""
    images: Mapping[str, Path]
    """Image files by id."""
    read: Callable[[int, str], tuple[Any, Any]]
    """(system, id) -> (prediction, truth): maps (H, W), or what else the task draws."""
    draw: Draw
    pixel_score: PixelScore | None = None
    """None: predictions are no maps."""
