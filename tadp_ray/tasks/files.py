"""Predictions and truths as files that `score` and `picture` read: a file for every map."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tadp_ray.files import drafted
from tadp_ray.layout import PREDICTIONS, TARGETS


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


def save_map(path: Path, values: Tensor) -> Path:
    """Write a map (H, W), labels as .png and metres as .npy, and return the file; `path` is without ending."""
    metres = values.is_floating_point()
    # A name may hold dots.
    path = path.with_name(path.name + (".npy" if metres else ".png"))
    values = values.cpu()
    save(path, values.float().numpy() if metres else values.numpy().astype(np.uint8))
    return path


class MapFiles:
    """A file for every map."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = classes

    def add(self, folder: Path, name: str, size: tuple[int, int], wanted: torch.Tensor, found: torch.Tensor) -> None:
        """Write an image's truth and prediction (H, W)."""
        for place, values in ((TARGETS, wanted), (PREDICTIONS, found)):
            save_map(folder / place / name, values)

    def end(self, folder: Path) -> None:
        """There is nothing left to write."""
