"""The result of an analysis, and the trained models that it needs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tadp_ray.config.cell import Cell
from tadp_ray.config.claims import Measured


def standard_error(values: np.ndarray) -> float:
    """Return the standard error of the mean of independent values (N,); NaN for a single value."""
    return float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else math.nan


@dataclass(frozen=True)
class Outcome:
    """The result of one analysis."""

    numbers: Mapping[str, float]
    """All results by name."""
    measured: Mapping[str, Measured]
    """The measures for claims by name; missing ones were not measured."""
    pictures: Sequence[str]
    """File names of the figures in the analysis' folder."""
    notes: Sequence[str] = ()
    """Missing results, each with the command that computes it."""


@dataclass(frozen=True)
class Trained:
    """A model of a recipe, which may not be trained yet."""

    cell: Cell
    command: str
    """Command that trains it."""
    metrics: Mapping[str, float] | None
    """Final metrics; None: not trained yet."""
