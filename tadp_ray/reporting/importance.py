"""The importance of what varied: how much worse a forest predicts the metric if one axis is shuffled."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

TREES = 100
REPEATS = 10
MIN_RUNS = 12
"""Below this a forest has nothing to learn from."""


@dataclass(frozen=True)
class Importance:
    """Importance of every axis, the largest first."""

    axes: tuple[tuple[str, float, float], ...]
    """(name, mean, standard deviation) of the loss of R² over repeated permutations."""
    fit: float
    """R² of the forest on runs that a tree has not seen."""
    runs: int

    def note(self, metric: str) -> str:
        """Return what the numbers are."""
        return (
            f"Permutation importance: how much R² a forest of {TREES} trees, fitted to {metric} of {self.runs} runs, loses if "
            f"one axis is shuffled ({REPEATS} times, ± standard deviation). Out of bag its R² is {self.fit:.2f}. A seed shows "
            "how much is chance."
        )


def importance(axes: Sequence[str], runs: Sequence[tuple[Sequence[Any], float]]) -> Importance | None:
    """Return the importance of axes for a metric.

    Args:
        axes: names of what varied.
        runs: (a value for each axis, metric) of each finished run.

    Returns: None if there are too few runs, nothing varies, or the forest predicts unseen runs no better than their mean.
    """
    target = np.array([value for _, value in runs])
    if len(runs) < MIN_RUNS or not np.isfinite(target).all() or np.ptp(target) == 0:
        return None
    # Importing them takes seconds, and most tables are smaller.
    import sklearn
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    inputs = np.column_stack([encoded([values[axis] for values, _ in runs]) for axis in range(len(axes))])
    # Every call of every tree would check its arguments, which takes longer than its work.
    with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
        forest = RandomForestRegressor(TREES, oob_score=True, min_samples_leaf=2, random_state=0).fit(inputs, target)
        if forest.oob_score_ <= 0:
            return None
        found = permutation_importance(forest, inputs, target, n_repeats=REPEATS, random_state=0)
    order = np.argsort(-found.importances_mean, kind="stable")
    means, spreads = found.importances_mean.tolist(), found.importances_std.tolist()
    return Importance(
        tuple((axes[k], means[k], spreads[k]) for k in order.tolist()), float(forest.oob_score_), len(runs)
    )


def encoded(values: Sequence[Any]) -> list[float]:
    """Return values as numbers: themselves, or the places of their first appearance, which trees can separate."""
    if all(isinstance(value, int | float) for value in values):
        return [float(value) for value in values]
    places = {text: place for place, text in enumerate(dict.fromkeys(map(str, values)))}
    return [float(places[str(value)]) for value in values]
