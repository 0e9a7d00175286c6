"""A figure shows what was predicted where it is in the image."""

from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

from tadp_ray.config.load import load_recipe
from tadp_ray.training import pictures
from tadp_ray.training.evaluate import truth
from tadp_ray.training.setup import TrainSetup

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("score_at", "side"), [("image", 64), ("view", 96)])
def test_boxes_are_drawn_in_an_image_of_the_size_at_which_they_are_scored(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, score_at: str, side: int
) -> None:
    changes = ["augment.stretch=96", f"evaluation.score_at={score_at}"]
    setup = TrainSetup(load_recipe(ROOT / "experiments/recipes/pocket_detection.yaml", changes), 0)
    monkeypatch.setattr(pictures, "predictions", lambda *_: ((0, found) for found in [truth(setup, 0)]))
    drawn: list[Figure] = []
    monkeypatch.setattr(pictures, "write_figure", lambda figure, _: drawn.append(figure))
    pictures.draw_predictions(tmp_path / "x.png", torch.nn.Module(), setup, {}, torch.device("cpu"), count=1)
    photo, true, _ = drawn[0].axes[:3]
    assert photo.images[0].get_array().shape == true.images[0].get_array().shape == (side, side, 3)
    edges = [rim.get_bbox().extents + 0.5 for rim in true.patches[::2]]
    assert edges == [pytest.approx(box) for box in truth(setup, 0)[0]["boxes"].tolist()]
