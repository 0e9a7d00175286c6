"""One rule says what is shown, for better and for worse."""

import numpy as np

from tadp_ray.pictures.choose import Selection, choose, rule, windows
from tadp_ray.pictures.colours import palette, to_oklab
from tadp_ray.pictures.comparison import ImageScore

DEPTH = ImageScore("RMSE", "{:.2f} m", "squared error")


def test_images_are_those_in_which_the_best_other_is_farthest() -> None:
    scores = np.array([[50, 60, 10, 30, np.nan], [40, 20, 40, 30, 10], [45, 10, 20, 0, 10]], float)
    assert choose(scores, "better", 4) == [Selection(1, 1), Selection(0, 2)]
    assert choose(scores, "worse", 4) == [Selection(2, 1)]
    assert "largest, as far as it is above zero" in rule(DEPTH, "better")
    assert "smallest, as far as it is below zero" in rule(DEPTH, "worse")


def test_examples_are_at_equal_steps_of_what_is_scored() -> None:
    scores = np.array([[np.nan, 1, 9, 2, np.nan, 5, 3]])
    assert [own.number for own in choose(scores, "examples", 3)] == [1, 3, 6]
    assert [own.number for own in choose(scores, "examples", 9)] == [1, 2, 3, 5, 6]
    assert "whatever their score" in rule(DEPTH, "examples")


def test_windows_lie_where_most_is_gained_and_apart() -> None:
    gain = np.zeros((16, 24))
    gain[9:13, 15:21] = 1  # a whole window
    gain[2:5, 2:8] = 1  # three quarters of one
    gain[0, 20] = 1
    gain[13:, :3] = -1
    assert list(windows(gain)) == [(15, 9, 21, 13), (2, 1, 8, 5)]
    gain[2:4] = 0
    assert list(windows(gain)) == [(15, 9, 21, 13)]  # what is left is less than half as much
    assert list(windows(-np.abs(gain))) == []


def test_colours_are_told_apart_with_any_eye() -> None:
    """In Oklab, where black and white are 1 apart."""
    assert np.array_equal(palette(150)[:55], palette(55))

    def nearest(count: int) -> np.ndarray:
        gaps = np.linalg.norm((places := to_oklab(palette(count)))[:, :, None] - places[:, None], axis=-1)
        return np.where(np.eye(count, dtype=bool), np.inf, gaps).min((1, 2))

    assert (nearest(7) > 0.07).all(), nearest(7)
    # So many classes has the pocket world.
    usual, no_red, no_green = nearest(55)
    assert usual > 0.06 and min(no_red, no_green) > 0.012, nearest(55)
