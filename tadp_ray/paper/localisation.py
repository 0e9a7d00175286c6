"""Metrics of attention maps: localisation on an object, and diffuseness."""

import numpy as np
from sklearn.metrics import average_precision_score


def localisation(scores: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Return how well a map (H, W) of any scale localises an object, bool (H, W) with at least one true pixel.

    Returns: in [0, 1], `pointing`, whether the maximum is on the object; `average_precision` of the map as a score of the
    object's pixels; `chance`, the share of the image that the object covers, which is the expected value of both by chance.
    """
    flat, wanted = scores.ravel(), truth.ravel()
    return {
        "pointing": float(wanted[flat.argmax()]),
        "average_precision": float(average_precision_score(wanted, flat)),
        "chance": float(wanted.mean()),
    }


def diffuseness(scores: np.ndarray) -> float:
    """Return the entropy of a map (H, W) of non-negative scores over its pixels, relative to a uniform map.

    1 is uniform over the whole image, 0 is a single pixel. A map that is k times as wide on each side has ln(k^2) more nats.
    """
    shares = scores.ravel() / scores.sum()
    present = shares[shares > 0]
    return float(-(present * np.log(present)).sum() / np.log(shares.size))


UNIFORM = 0.998
"""Diffuseness above which a map is uninformative.

In 150 scenes with the pocket model, 62 % of the maps of "a" exceed it, and 10 % of the maps of objects in the scene. These maps
localise their objects worse (average precision 0.38) than the others (0.53).
"""


def is_uniform(scores: np.ndarray) -> bool:
    """Return whether a map (H, W) of non-negative scores is too uniform to be informative."""
    return diffuseness(scores) >= UNIFORM


def mass(scores: np.ndarray, region: np.ndarray) -> float:
    """Return the share of a map's sum (H, W) inside a region, bool (H, W)."""
    return float(scores[region].sum() / scores.sum())
