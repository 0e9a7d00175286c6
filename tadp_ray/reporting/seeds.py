"""Paired differences over seeds, with intervals: what the noise of training lets a table tell apart."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tadp_ray.config.metrics import lower_is_better
from tadp_ray.config.vocabulary import MIN_COUNT
from tadp_ray.reporting.resampling import PERCENT, excludes_zero

if TYPE_CHECKING:
    from tadp_ray.reporting.table import TableEntry


@dataclass(frozen=True)
class Gap:
    """A mean difference over seeds, with Student's interval."""

    mean: float
    low: float
    high: float
    n: int
    """The number of seeds."""

    @property
    def told_apart(self) -> bool:
        """Whether the interval excludes zero."""
        return excludes_zero(self.low, self.high)


def gap_of(differences: Sequence[float]) -> Gap | None:
    """Return the mean of the differences within each seed, with its interval at PERCENT.

    Returns: None with fewer than MIN_COUNT seeds, whose spread is unknown, and if a value is not finite.
    """
    if len(differences) < MIN_COUNT or not all(map(math.isfinite, differences)):
        return None
    # Student's quantile; scipy.stats, which has it too, takes a second to import.
    from scipy.special import stdtrit

    n, mean = len(differences), statistics.fmean(differences)
    error = statistics.stdev(differences) / math.sqrt(n)
    reach = float(stdtrit(n - 1, (1 + PERCENT / 100) / 2)) * error
    return Gap(mean, mean - reach, mean + reach, n)


def paired_differences(entry: "TableEntry", other: "TableEntry") -> list[float]:
    """Return how far an entry lies above another, for each seed that both have."""
    theirs = other.by_seed
    return [value - theirs[seed] for seed, value in entry.by_seed.items() if seed in theirs]


def improvements(worse: "TableEntry", better: "TableEntry") -> list[float]:
    """Return how much better an entry is, for each seed that both have."""
    low, high = (better, worse) if lower_is_better(better.metric) else (worse, better)
    return paired_differences(high, low)


def paired_gap(entry: "TableEntry", other: "TableEntry") -> Gap | None:
    """Return how far an entry lies above another over the seeds that both have; None if these are too few."""
    return gap_of(paired_differences(entry, other))


def tied(entry: "TableEntry", other: "TableEntry") -> bool:
    """Return whether the seeds that both entries have do not tell them apart; false if these are too few."""
    gap = paired_gap(entry, other)
    return gap is not None and not gap.told_apart
