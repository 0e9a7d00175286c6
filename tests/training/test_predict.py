"""The names of the files into which predictions are written."""

import re

import pytest

from tadp_ray.errors import UserError
from tadp_ray.training.predict import file_names


def test_each_prediction_has_a_file_of_its_image_s_name() -> None:
    ids = ["a.jpg", "town/b.PNG", "town/night/b.jpeg", "c", "d.tif", "e.1"]
    assert file_names(ids) == ["a", "town_b", "town_night_b", "c", "d.tif", "e.1"]


def test_two_predictions_in_one_file_are_refused() -> None:
    said = "several images would be written to the same file, such as 'town_b'; rename them"
    with pytest.raises(UserError, match=f"^{re.escape(said)}$"):
        file_names(["town/b.png", "a.jpg", "town_b.jpg", "c", "a.png"])
