"""The judge of looks tells them apart, and judges nothing but finished personalizations."""

from collections import Counter
from pathlib import Path

import pytest

from tadp_ray.backbones.stable_diffusion.load import load_diffusion
from tadp_ray.data.scenes import GROUNDS, THINGS
from tadp_ray.errors import UserError
from tadp_ray.paper.pocket import style
from tadp_ray.paper.pocket.style import captions_to_draw, measure_style


@pytest.mark.slow
def test_the_judge_tells_looks_apart_that_it_was_not_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Filters are plain to see; who drew a thing is harder to tell, since families draw the same things.

    With fewer scenes and steps than in use, where the accuracy is 0.92.
    """
    monkeypatch.setattr(style, "SCENES", 80)
    monkeypatch.setattr(style, "STEPS", 150)
    monkeypatch.setattr(style, "HELD_OUT", 20)
    _, accuracy = style.train_judge(load_diffusion("pocket").vae, 64)
    assert accuracy > 0.75


def test_only_a_finished_personalization_is_judged(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no finished personalization; tadp-ray personalize makes one"):
        measure_style(tmp_path, tmp_path / "style.png")


def test_pictures_to_judge_are_of_every_thing_on_every_ground() -> None:
    things, grounds, skies = zip(*(caption.split() for caption in captions_to_draw(48)), strict=True)
    assert {*things} == {*THINGS} and {*skies} == {"sky"} and Counter(grounds) == dict.fromkeys(GROUNDS, 12)
