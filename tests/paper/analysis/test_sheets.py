"""Maps of words share one scale, so that a word that says nothing does not glow like one that finds its thing."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from tadp_ray.paper.analysis.attention import Attention
from tadp_ray.paper.analysis.sheets import attention_sheet, highest, overlay
from tadp_ray.paper.localisation import UNIFORM, diffuseness, is_uniform

SIDE = 16


def peaked(times: float) -> np.ndarray:
    """A map whose one corner of 2 x 2 has so many times what a uniform map has."""
    scores = np.full((SIDE, SIDE), (1 - 4 * times / SIDE**2) / (SIDE**2 - 4))
    scores[:2, :2] = times / SIDE**2
    return scores


def test_a_map_is_even_from_the_stated_diffuseness_on() -> None:
    assert UNIFORM == 0.998 and is_uniform(np.ones((4, 4))) and not is_uniform(peaked(4))
    weak, strong = peaked(1.8), peaked(2.8)
    assert diffuseness(weak) > UNIFORM > diffuseness(strong) and is_uniform(weak) and not is_uniform(strong)


def test_the_scale_is_that_of_the_strongest_map_that_says_something() -> None:
    """In times a uniform map, whatever share of all attention a word has; a uniform map's highest place sets no scale."""
    assert highest([peaked(4), 100 * peaked(8), peaked(1.8)]) == pytest.approx(8)
    assert highest([np.ones((4, 4)), peaked(1.8)]) == 2


def shown(scores: np.ndarray, top: float) -> tuple[str, str, list[tuple[float, float]]]:
    """Title, its colour, and the colour ranges of what is drawn over the picture."""
    axes = Figure().subplots()
    overlay(axes, np.zeros((SIDE, SIDE, 3), np.uint8), scores, top, "word")
    return axes.get_title(), axes.title.get_color(), [image.get_clim() for image in axes.get_images()[1:]]


def test_an_even_map_is_told_and_not_drawn() -> None:
    assert shown(peaked(3), 8) == ("word", "black", [(1, 8)])
    assert shown(peaked(1.5), 8) == ("word: uniform", "0.6", [])


def test_the_words_of_a_sheet_have_one_scale() -> None:
    maps = torch.stack([torch.from_numpy(scores) for scores in (peaked(1.2), peaked(3), 9 * peaked(6))])
    places = {"a": (0,), "car": (1,), "dog": (2,)}
    found = Attention(
        np.zeros((SIDE, SIDE, 3), np.uint8), "a car dog", places, ("a", "car", "dog"), {"l": maps[None, None]}
    )
    figure = attention_sheet(found)
    drawn = {axes.get_title(): [image.get_clim() for image in axes.get_images()[1:]] for axes in figure.axes}
    assert drawn["a: uniform"] == [] and drawn["car"] == drawn["dog"] == [pytest.approx((1, 6))]
    assert [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()] == ["times a uniform map"] * 2
    told = found.figures({})
    assert [told[word]["uniform"] for word in ("a", "car", "dog")] == [True, False, False]
