"""Which images and which parts of them are shown: by one rule for better and for worse, never by hand."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tadp_ray.pictures.comparison import ImageScore

Direction = Literal["better", "worse"]
PART = 4
"""A window's sides are the image's divided by this."""
WINDOWS = 2
"""Drawn in an image at most."""
LESS = 0.5
"""A window is drawn if it tells the systems apart at least this much as well as the first one of its image."""


def rule(score: ImageScore, direction: Direction) -> str:
    """How images and windows are chosen, in words."""
    order, sign = ("largest", "above") if direction == "better" else ("smallest", "below")
    said = (
        f"An image's score: {score.meaning}. Images: those in which the first system's score minus the best of the others' is "
        f"{order}, as far as it is {sign} zero."
    )
    if not score.pixels:
        return said
    return (
        f"{said} Frames: windows of a {PART}th of the image's height and width in which the first system is {direction} than "
        f"that other one by most in the sum of {score.pixels}; at most {WINDOWS}, apart from each other, the second at least "
        f"{LESS:g} times the first."
    )


@dataclass(frozen=True)
class Selection:
    """An image that is shown."""

    number: int
    """Among the images that are compared."""
    rival: int
    """The best of the other systems."""
    gap: float
    """The first system's score minus the rival's."""


def choose(scores: np.ndarray, direction: Direction, count: int) -> list[Selection]:
    """The `count` images that tell the first of S systems apart from the best other most, as far as there are any.

    Args:
        scores: (S, N), higher is better, NaN where an image is not scored.
        direction: whether the first system is to be better or worse.
        count: how many at most.
    """
    gaps = scores[0] - scores[1:].max(0)
    sign = 1 if direction == "better" else -1
    order = np.argsort(-sign * gaps, kind="stable")
    numbers = [int(number) for number in order if sign * gaps[number] > 0][:count]
    return [Selection(number, 1 + int(scores[1:, number].argmax()), float(gaps[number])) for number in numbers]


def windows(gain: np.ndarray) -> Iterator[tuple[int, int, int, int]]:
    """Windows (left, top, right, bottom) of a PARTth of a map's sides with the largest sums, apart from each other.

    Args:
        gain: (H, W) how much better each pixel is in the direction that is shown.
    """
    height, width = (max(1, side // PART) for side in gain.shape)
    sums = np.pad(gain.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    total = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    least = 0.0
    for number in range(WINDOWS):
        top, left = np.unravel_index(total.argmax(), total.shape)
        if not total[top, left] > 0 or total[top, left] < least:
            return
        least = LESS * total[top, left] if number == 0 else least
        yield int(left), int(top), int(left) + width, int(top) + height
        total[max(0, top - height + 1) : top + height, max(0, left - width + 1) : left + width] = -np.inf
