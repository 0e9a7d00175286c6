"""Selects the images and windows of a comparison, by one rule for better and for worse, and images of a single system."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tadp_ray.pictures.comparison import ImageScore

Direction = Literal["better", "worse", "examples"]
"""Where the first system is better or worse than the others, or examples of a single one."""
PART = 4
"""Ratio of an image's sides to a window's."""
WINDOWS = 2
"""Maximum number of windows per image."""
LESS = 0.5
"""Minimum sum of a window, relative to the first window of its image."""


def rule(score: ImageScore, direction: Direction) -> str:
    """Describe how images and windows are selected."""
    if direction == "examples":
        return f"An image's score: {score.meaning}. Images: at equal steps of their names, whatever their score."
    order, sign = ("largest", "above") if direction == "better" else ("smallest", "below")
    text = (
        f"An image's score: {score.meaning}. Images: those in which the first system's score minus the best of the others' is "
        f"{order}, as far as it is {sign} zero."
    )
    if not score.pixels:
        return text
    return (
        f"{text} Frames: windows of a {PART}th of the image's height and width in which the first system is {direction} than "
        f"that other one by most in the sum of {score.pixels}; at most {WINDOWS}, apart from each other, the second at least "
        f"{LESS:g} times the first."
    )


@dataclass(frozen=True)
class Selection:
    """A selected image."""

    number: int
    """Index of the image."""
    rival: int
    """Index of the best other system on it; of a single system its own."""


def directions(systems: int) -> tuple[Direction, ...]:
    """Return what figures there are of a number of systems."""
    return ("better", "worse") if systems > 1 else ("examples",)


def evenly(total: int, count: int) -> list[int]:
    """Return at most `count` of the numbers below `total`, at equal steps, with the first and the last."""
    return sorted({round(place) for place in np.linspace(0, total - 1, min(count, total))})


def choose(scores: np.ndarray, direction: Direction, count: int) -> list[Selection]:
    """Return the images with the largest gap between the first of S systems and the best other one.

    Of examples, return images at equal steps, from the first to the last that is scored.

    Args:
        scores: (S, N), higher is better, NaN where an image is not scored.
        direction: whether the first system is better or worse in them; or examples.
        count: maximum number.
    """
    if direction == "examples":
        scored = np.flatnonzero(~np.isnan(scores[0]))
        return [Selection(int(scored[place]), 0) for place in evenly(len(scored), count)]
    gaps = scores[0] - scores[1:].max(0)
    sign = 1 if direction == "better" else -1
    order = np.argsort(-sign * gaps, kind="stable")
    numbers = [int(number) for number in order if sign * gaps[number] > 0][:count]
    return [Selection(number, 1 + int(scores[1:, number].argmax())) for number in numbers]


def windows(gain: np.ndarray) -> Iterator[tuple[int, int, int, int]]:
    """Yield the disjoint windows (left, top, right, bottom) with the largest sums, of 1/PART of the map's sides.

    Args:
        gain: (H, W), difference of the pixel scores, positive in the direction of the comparison.
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
