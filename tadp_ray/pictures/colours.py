"""Colours of all figures: a palette for classes that is safe for colour blindness, and a colour map for amounts."""

from functools import lru_cache

import numpy as np
from matplotlib import colormaps

# Perceptually uniform and safe for colour blindness: scores, depth.
AMOUNTS = colormaps["cividis"]
FIRST = ("56B4E9", "009E73", "F0E442", "D55E00", "CC79A7", "0072B2", "E69F00")
"""Okabe and Ito's colours, which are safe for colour blindness. Further colours are computed."""
# Linear RGB as seen with protanopia or deuteranopia (Machado, Oliveira and Fernandes 2009, Table 1).
PROTANOPIA = ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998))
DEUTERANOPIA = ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881))
# Linear RGB to Oklab, a perceptually uniform space (Ottosson 2020).
TO_CONES = ((0.4122215, 0.5363325, 0.0514460), (0.2119035, 0.6806995, 0.1073970), (0.0883025, 0.2817188, 0.6299787))
TO_LAB = ((0.2104543, 0.7936178, -0.0040720), (1.9779985, -2.4285922, 0.4505937), (0.0259040, 0.7827718, -0.8086758))
DICHROMAT_WEIGHT = 5
"""Weight of the smaller of the two distances in dichromatic vision."""
LIGHTNESS = (0.3, 0.93)
"""Range for computed colours, away from the black of outlines and the white of ignored pixels."""


def to_oklab(colours: np.ndarray) -> np.ndarray:
    """Convert sRGB colours (N, 3) in [0, 1] to Oklab (3, N, 3), for normal vision, protanopia and deuteranopia."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    visions = np.stack([np.eye(3), PROTANOPIA, DEUTERANOPIA])
    return np.cbrt((linear @ visions.transpose(0, 2, 1)).clip(0, 1) @ np.transpose(TO_CONES)) @ np.transpose(TO_LAB)


@lru_cache(maxsize=4)
def palette(count: int) -> np.ndarray:
    """Return `count` RGB colours (count, 3) in [0, 1], the first ones of a fixed sequence. At most 512 are distinct.

    After the first seven, each colour has the largest distance to all before it. The distance is that in normal vision, plus
    DICHROMAT_WEIGHT times the smaller one of protanopia and deuteranopia.
    """
    first = np.array([[int(name[i : i + 2], 16) for i in (0, 2, 4)] for name in FIRST]) / 255
    steps = np.linspace(0, 1, 9)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    light = to_oklab(grid)[0, :, 0]
    colours = np.concatenate([first, grid[(light > LIGHTNESS[0]) & (light < LIGHTNESS[1])]])
    points = to_oklab(colours)

    def distances(index: int) -> np.ndarray:
        normal, *dichromat = np.linalg.norm(points - points[:, index : index + 1], axis=-1)
        return normal + DICHROMAT_WEIGHT * np.min(dichromat, 0)

    chosen = list(range(len(first)))
    nearest = np.min([distances(index) for index in chosen], 0)
    while len(chosen) < count:
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, distances(chosen[-1]))
    return colours[chosen[:count]]
