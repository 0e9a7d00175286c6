"""Figure S4's matrix, number by number: mean scores over the pixels of each true class."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from tadp_ray.config.analysis import OffTarget
from tadp_ray.config.data import CaptionConfig
from tadp_ray.errors import UserError
from tadp_ray.paper.analysis import off_target
from tadp_ray.paper.analysis.off_target import compared, confusion, shares_of, strongest
from tadp_ray.tasks.segmentation.metrics import SegmentationMetrics

SCORES = {
    0: [[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.1, 0.6, 0.3], [0.9, 0.0, 0.1]],
    1: [[0.0, 0.8, 0.2], [0.4, 0.1, 0.5], [0.3, 0.3, 0.4], [0.2, 0.2, 0.6]],
}
"""By image, softmax scores of three classes at four pixels."""
TRUTH = {0: [0, 0, 1, 255], 1: [1, 1, 255, 0]}


class StubSegmenter:
    """A model of two images of 2 x 2 pixels."""

    setup = SimpleNamespace(
        val=SimpleNamespace(classes=("sky", "cat", "dog")), task=SimpleNamespace(metrics=SegmentationMetrics)
    )

    def probabilities(self, caption):
        """(index, scores (3, 2, 2)) of both images."""
        for index, scores in SCORES.items():
            yield index, torch.tensor(scores).T.reshape(3, 2, 2)


def test_a_row_is_the_mean_over_the_pixels_of_its_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels of sky: (.7 .2 .1), (.5 .3 .2), (.2 .2 .6); of cat: (.1 .6 .3), (0 .8 .2), (.4 .1 .5); of dog none."""
    monkeypatch.setattr(off_target, "truth", lambda _, index: torch.tensor(TRUTH[index]).reshape(1, 2, 2))
    sums, pixels, miou = confusion(StubSegmenter(), None)
    assert pixels.tolist() == [3, 3, 0]
    np.testing.assert_allclose(sums, [[1.4, 0.7, 0.9], [0.5, 1.5, 1.0], [0, 0, 0]], rtol=1e-6)
    wanted = [[140 / 3, 70 / 3, 30], [50 / 3, 50, 100 / 3], [np.nan] * 3]
    np.testing.assert_allclose(shares_of(sums), wanted, rtol=1e-6)
    # Of sky and cat two of three pixels each are right, the third is taken for dog: 2 / 3, 2 / 3, and 0 of dog.
    assert miou == pytest.approx(100 * (2 / 3 + 2 / 3 + 0) / 3)


def test_a_rise_of_each_name_does_not_depend_on_the_sizes_of_groups() -> None:
    """Pixels show a alone, which has one look-alike; b, c and d, of which no pixel is, have two."""
    classes = ("a", "A", "b", "c", "d")
    alike = {"a": ["A"], "A": ["a"], "b": ["c", "d"], "c": ["b", "d"], "d": ["b", "c"]}
    pixels = torch.tensor([4.0, 0, 0, 0, 0], dtype=torch.float64)
    before, after = torch.zeros(5, 5, dtype=torch.float64), torch.zeros(5, 5, dtype=torch.float64)
    after[0] = torch.tensor([0, 0.04, 0.08, 0.08, 0.08])
    found = compared(classes, alike, (before, pixels, 50.0), (after, pixels, 40.0))
    assert found["look-alikes: rise of each in points"] == pytest.approx(1.0)
    assert found["others: rise of each in points"] == pytest.approx(2.0)


def test_confusions_with_classes_that_no_image_shows_do_not_rise() -> None:
    rise = np.array([[0.0, 3.0, -1.0], [2.0, 0.0, 1.0], [np.nan] * 3])
    assert strongest(("x", "y", "z"), rise) == [("x", "y", 3.0), ("y", "x", 2.0), ("y", "z", 1.0), ("x", "z", -1.0)]


def test_both_prompts_differ_in_their_names_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    caption = CaptionConfig(source="oracle", modifiers=("a photo of {caption}",), include_background=True)
    segmenter, asked = StubSegmenter(), []
    segmenter.setup = SimpleNamespace(val=StubSegmenter.setup.val, recipe=SimpleNamespace(caption=caption))
    monkeypatch.setattr(off_target, "load_segmenter", lambda *_: segmenter)
    monkeypatch.setattr(off_target, "look_alikes", lambda *_: {})
    monkeypatch.setattr(off_target, "compared", lambda *_: {"a": 1.0})
    monkeypatch.setattr(off_target, "measures", lambda _: {})
    monkeypatch.setattr(off_target, "draw", lambda *_: Figure())
    ones = torch.ones(3, 3, dtype=torch.float64)
    monkeypatch.setattr(off_target, "confusion", lambda _, told: asked.append(told) or (ones, ones[0], 1.0))
    one = SimpleNamespace(cell=SimpleNamespace(recipe=SimpleNamespace(compute=SimpleNamespace(folder=tmp_path))))
    off_target.off_target(SimpleNamespace(groups={}), [one], torch.device("cpu"), tmp_path)
    assert asked == [None, caption.model_copy(update={"source": "class_names"})]


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ([["bus", "truck", "car"]], "give two groups or more, of two names or more"),
        ([["bus", "truck"], ["cat"]], "give two groups or more, of two names or more"),
        ([["cat", "dog"], ["dog", "horse"]], "'dog' is there twice; name it in one group"),
    ],
)
def test_groups_that_cannot_be_compared_are_refused(groups: list[list[str]], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        OffTarget(kind="off_target", groups=groups)


def test_images_without_any_of_the_groups_classes_are_told() -> None:
    none = torch.zeros(3, 3, dtype=torch.float64), torch.tensor([5.0, 0, 0]), 50.0
    with pytest.raises(UserError, match=r"spec\.groups: no evaluation image shows one of their classes"):
        compared(("sky", "cat", "dog"), {"cat": ("dog",), "dog": ("cat",)}, none, none)


def test_rises_are_over_the_pixels_of_the_groups_classes_and_each_over_their_others() -> None:
    """Sky is in no group: neither its pixels nor its row count."""
    classes = ("sky", "cat", "dog", "car", "bus")
    alike = {"cat": ("dog",), "dog": ("cat",), "car": ("bus",), "bus": ("car",)}
    pixels, before = torch.tensor([90.0, 4, 3, 2, 1]), torch.zeros(5, 5, dtype=torch.float64)
    after = before.clone()
    after[0, 1], after[1, 2], after[4, 1], after[2, 3] = 60, 1, 0.5, 0.3
    found = compared(classes, alike, (before, pixels, 50.0), (after, pixels, 40.0))
    assert found == pytest.approx(
        {
            "look-alikes: percent with present names": 0,
            "look-alikes: percent with all names": 10,
            "look-alikes: rise in points": 10,
            "look-alikes: rise of each in points": 10,
            "others: percent with present names": 0,
            "others: percent with all names": 8,
            "others: rise in points": 8,
            "others: rise of each in points": 4,
            "mIoU: percent with present names": 50,
            "mIoU: percent with all names": 40,
            "mIoU: lost in points": 10,
        }
    )
