"""Predictions and truths as files that `score` and `picture` read: a file for every map."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image
from torch import Tensor

from tadp_ray.files import drafted
from tadp_ray.layout import PREDICTIONS, TARGETS

Write = Callable[[Path, Any], Path]
"""(path without ending, prediction of an image) -> the file that was written."""


class PredictionFiles(Protocol):
    """Writes the truth and the prediction of every image of a split."""

    @property
    def classes(self) -> Sequence[str]:
        """Class names that scoring needs beside the files, in index order."""
        ...

    def add(self, folder: Path, name: str, size: tuple[int, int], wanted: Any, found: Any) -> None:
        """Take an image's truth and prediction at (height, width); `name` is without ending."""
        ...

    def end(self, folder: Path) -> None:
        """Write what is left, after the last image."""
        ...


def save(path: Path, values: np.ndarray) -> None:
    """Write an array by what its file is called."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with drafted(path) as draft, draft.open("wb") as file:
        np.save(file, values) if path.suffix == ".npy" else Image.fromarray(values).save(file, "PNG")


class MapFiles:
    """A file for every map.

    Args:
        write: a map's file, as of `Task.write`.
        classes: names in index order.
    """

    def __init__(self, write: Write, classes: Sequence[str]) -> None:
        self._write = write
        self.classes = classes

    def add(self, folder: Path, name: str, size: tuple[int, int], wanted: Tensor, found: Tensor) -> None:
        """Write an image's truth and prediction (H, W)."""
        for place, values in ((TARGETS, wanted), (PREDICTIONS, found)):
            self._write(folder / place / name, values)

    def end(self, folder: Path) -> None:
        """There is nothing left to write."""
