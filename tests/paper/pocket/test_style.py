"""The judge of looks tells them apart, and judges nothing but finished personalizations."""

from pathlib import Path

import pytest

from tadp_ray.backbones.stable_diffusion.load import load_diffusion
from tadp_ray.errors import UserError
from tadp_ray.paper.pocket.style import captions_to_draw, measure_style, train_judge


def test_the_judge_tells_looks_apart_that_it_was_not_trained_on() -> None:
    _, accuracy = train_judge(load_diffusion("pocket").vae, 32)
    assert accuracy > 0.9


def test_only_a_finished_personalization_is_judged(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no finished personalization; tadp-ray personalize makes one"):
        measure_style(tmp_path, tmp_path / "style.png")
    assert len({*captions_to_draw(24)}) == 24
