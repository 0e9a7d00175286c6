"""What chance in the choice of images could have made of a number: data sets drawn anew from the scored images.

scipy.stats.bootstrap, by the same percentile method, is not used: it draws for each call anew and computes the statistic of
rows, where one draw of images must serve both rows of a difference, all their seeds and all points of an image, and where
scores come of sums weighted by how often each image was drawn, without a pass over the images for each draw.
"""

from functools import lru_cache

import numpy as np

RESAMPLES = 2000
PERCENT = 95


@lru_cache(maxsize=2)
def resamples(images: int) -> np.ndarray:
    """How often each image is in each of RESAMPLES data sets that are drawn with replacement (RESAMPLES, images).

    They are the same whenever they are asked for, so that all that is told apart by image is resampled together.
    """
    return np.random.default_rng(0).multinomial(images, np.full(images, 1 / images), RESAMPLES).astype(float)


def interval(values: np.ndarray) -> np.ndarray:
    """Where the middle PERCENT of resampled values (RESAMPLES, ...) lie, as (low, high); what is no number is left out."""
    tail = (100 - PERCENT) / 2
    return np.nanpercentile(values, (tail, 100 - tail), axis=0)
