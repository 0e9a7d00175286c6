"""Figures of a map are what their names say, at the ends of their ranges."""

import numpy as np
import pytest

from tadp_ray.paper.localisation import diffuseness, localisation, mass


def test_a_map_is_diffuse_between_one_pixel_and_everywhere() -> None:
    even, single = np.full((6, 9), 0.3), np.zeros((6, 9))
    single[2, 3] = 5.0
    half = even.copy()
    half[3:] = 0
    assert diffuseness(even) == pytest.approx(1)
    assert diffuseness(single) == 0
    assert diffuseness(half) == pytest.approx(np.log(27) / np.log(54))


def test_a_map_is_on_the_thing_or_beside_it() -> None:
    truth = np.zeros((4, 5), bool)
    truth[1:3, 1:3] = True
    on, beside = truth + 0.1, ~truth + 0.1
    assert localisation(on, truth) == {"pointing": 1, "average_precision": 1, "chance": 0.2}
    assert localisation(beside, truth)["pointing"] == 0
    assert localisation(beside, truth)["average_precision"] == pytest.approx(0.2)
    assert mass(on, truth) == pytest.approx(4.4 / (4.4 + 1.6))
