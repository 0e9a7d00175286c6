"""Where a map lies: on a thing or beside it, on one place or everywhere."""

import numpy as np
from sklearn.metrics import average_precision_score


def localisation(scores: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """How well a map (H, W) of any scale says which pixels are a thing's, bool (H, W), of which there must be some.

    Returns, as shares of 1: `pointing`, whether the highest place is on the thing; `average_precision` of the map as a score
    of the thing's pixels; `chance`, the share of the picture that the thing covers, which both have by chance.
    """
    flat, wanted = scores.ravel(), truth.ravel()
    return {
        "pointing": float(wanted[flat.argmax()]),
        "average_precision": float(average_precision_score(wanted, flat)),
        "chance": float(wanted.mean()),
    }


def diffuseness(scores: np.ndarray) -> float:
    """Entropy of a map (H, W) of non-negative scores as a distribution over its pixels, relative to an even one's.

    1 is even over the whole picture, 0 is a single pixel; a map that is k times as wide on each side has ln(k^2) more nats.
    """
    shares = scores.ravel() / scores.sum()
    present = shares[shares > 0]
    return float(-(present * np.log(present)).sum() / np.log(shares.size))


EVEN = 0.998
"""Diffuseness from which on a map says nothing.

In 150 scenes of the pocket model 62 % of the maps of "a" lie above it, and 10 % of those of things that are there; these lie on
their things less (average precision 0.38) than the others do (0.53).
"""


def even(scores: np.ndarray) -> bool:
    """Whether a map (H, W) of non-negative scores is so even that it says nothing."""
    return diffuseness(scores) >= EVEN


def mass(scores: np.ndarray, region: np.ndarray) -> float:
    """Share of a map's sum (H, W) that lies within a region, bool (H, W)."""
    return float(scores[region].sum() / scores.sum())
