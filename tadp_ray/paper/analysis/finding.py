"""What an analysis finds: numbers, some of which claims are about, and pictures; and the trained models that it asks for."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tadp_ray.config.cell import Cell
from tadp_ray.config.claims import Measured


def standard_error(values: np.ndarray) -> float:
    """Of a mean over independent values (N,), from their sample standard deviation; NaN for a single one."""
    return float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else math.nan


@dataclass(frozen=True)
class Outcome:
    """What one analysis says."""

    numbers: Mapping[str, float]
    measured: Mapping[str, Measured]
    """What claims may be about, by the name of each measure; what is missing was not measured."""
    pictures: Sequence[str]
    """File names below the analysis' folder."""
    notes: Sequence[str] = ()
    """What is missing, with the command that fills it."""


@dataclass(frozen=True)
class Trained:
    """A model that a recipe trains, wherever it stands with it."""

    cell: Cell
    command: str
    """Which trains it."""
    metrics: Mapping[str, float] | None
    """Final ones; None: not trained yet."""
