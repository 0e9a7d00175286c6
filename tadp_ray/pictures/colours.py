"""The colours of every picture: of classes, told apart by any eye as far as can be, and of amounts, even in lightness."""

from functools import lru_cache

import numpy as np
from matplotlib import colormaps

# Even in lightness and readable with any colour vision: scores, depth.
AMOUNTS = colormaps["cividis"]
FIRST = ("56B4E9", "009E73", "F0E442", "D55E00", "CC79A7", "0072B2", "E69F00")
"""Okabe and Ito's colours, made for all eyes; those of further classes are found."""
# Linear RGB as people see it who lack the receptors for red or for green (Machado, Oliveira and Fernandes 2009, Table 1).
NO_RED = ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998))
NO_GREEN = ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881))
# Linear RGB to Oklab, in which equal steps look equal (Ottosson 2020).
TO_CONES = ((0.4122215, 0.5363325, 0.0514460), (0.2119035, 0.6806995, 0.1073970), (0.0883025, 0.2817188, 0.6299787))
TO_LAB = ((0.2104543, 0.7936178, -0.0040720), (1.9779985, -2.4285922, 0.4505937), (0.0259040, 0.7827718, -0.8086758))
LACKING = 5
"""Weight of the eye that tells least apart."""
LIGHTNESS = (0.3, 0.93)
"""Of found colours, apart from the black of marks and the white of what is ignored."""


def seen(colours: np.ndarray) -> np.ndarray:
    """Oklab (3, N, 3) of sRGB colours (N, 3) in [0, 1]: to the usual eye, to one without red, to one without green."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    eyes = np.stack([np.eye(3), NO_RED, NO_GREEN])
    return np.cbrt((linear @ eyes.transpose(0, 2, 1)).clip(0, 1) @ np.transpose(TO_CONES)) @ np.transpose(TO_LAB)


@lru_cache(maxsize=4)
def palette(count: int) -> np.ndarray:
    """`count` RGB colours (count, 3) in [0, 1], the same whatever the count; at most 512 differ.

    After the first seven each is the one that is farthest from all before it: to the usual eye and, LACKING times added to
    that, to the worse of the two that lack a receptor.
    """
    first = np.array([[int(name[i : i + 2], 16) for i in (0, 2, 4)] for name in FIRST]) / 255
    steps = np.linspace(0, 1, 9)
    found = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    light = seen(found)[0, :, 0]
    colours = np.concatenate([first, found[(light > LIGHTNESS[0]) & (light < LIGHTNESS[1])]])
    places = seen(colours)

    def apart(index: int) -> np.ndarray:
        usual, *lacking = np.linalg.norm(places - places[:, index : index + 1], axis=-1)
        return usual + LACKING * np.min(lacking, 0)

    chosen = list(range(len(first)))
    nearest = np.min([apart(index) for index in chosen], 0)
    while len(chosen) < count:
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, apart(chosen[-1]))
    return colours[chosen[:count]]
