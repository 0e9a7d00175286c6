"""Writes predictions and ground truth as files for `score` and `picture`, one file per map."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image
from torch import Tensor

from tadp_ray.files import drafted
from tadp_ray.layout import PREDICTIONS, TARGETS

Write = Callable[[Path, Any], Path]
"""(path without suffix, prediction of an image) -> the file that was written."""


class PredictionFiles(Protocol):
    """Writes the ground truth and the prediction of every image of a split."""

    @property
    def classes(self) -> Sequence[str]:
        """Class names that scoring needs besides the files, in index order."""
        ...

    def add(self, folder: Path, name: str, size: tuple[int, int], wanted: Any, found: Any) -> None:
        """Add an image's ground truth and prediction at (height, width); `name` has no suffix."""
        ...

    def end(self, folder: Path) -> None:
        """Finish writing, after the last image."""
        ...


def save(path: Path, values: np.ndarray) -> None:
    """Write an array as .npy or PNG, by the suffix of the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with drafted(path) as draft, draft.open("wb") as file:
        np.save(file, values) if path.suffix == ".npy" else Image.fromarray(values).save(file, "PNG")


class MapFiles:
    """Writes one file per map.

    Args:
        write: writes a map, see `Task.write`.
        classes: class names in index order.
    """

    def __init__(self, write: Write, classes: Sequence[str]) -> None:
        self._write = write
        self.classes = classes

    def add(self, folder: Path, name: str, size: tuple[int, int], wanted: Tensor, found: Tensor) -> None:
        """Write an image's ground truth and prediction (H, W)."""
        for subfolder, values in ((TARGETS, wanted), (PREDICTIONS, found)):
            self._write(folder / subfolder / name, values)

    def end(self, folder: Path) -> None:
        """Do nothing; all files are written."""
