"""Bootstrap intervals over the scored images.

scipy.stats.bootstrap uses the same percentile method but draws new samples in every call. Here one set of samples serves
both rows of a difference, all their seeds and all points of an image. Scores are computed from sums weighted by the number
of times an image was drawn, without a pass over the images for each sample.
"""

from functools import lru_cache

import numpy as np

RESAMPLES = 2000
PERCENT = 95


@lru_cache(maxsize=2)
def resamples(images: int) -> np.ndarray:
    """Return how often each image is in each of RESAMPLES samples with replacement, (RESAMPLES, images).

    Every call returns the same samples, so that all per-image results are resampled together.
    """
    return np.random.default_rng(0).multinomial(images, np.full(images, 1 / images), RESAMPLES).astype(float)


def excludes_zero(low: float, high: float) -> bool:
    """Return whether an interval tells its value apart from zero."""
    return low > 0 or high < 0


def interval(values: np.ndarray) -> np.ndarray:
    """Return the bounds (low, high) of the middle PERCENT of resampled values (RESAMPLES, ...), ignoring NaN."""
    tail = (100 - PERCENT) / 2
    return np.nanpercentile(values, (tail, 100 - tail), axis=0)
