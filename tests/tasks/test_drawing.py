"""What a task draws says what it shows, in words and colours."""

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tadp_ray.tasks.depth.drawing import draw_depth
from tadp_ray.tasks.detection.drawing import draw_boxes
from tadp_ray.tasks.segmentation.drawing import draw_labels

IMAGE = np.full((20, 30, 3), 90, np.uint8)
CLASSES = ("sky, heaven", "sea", "cat")


@pytest.fixture
def axes() -> list[Axes]:
    """Two axes of one figure."""
    return list(Figure(layout="constrained").subplots(1, 2))


def words(axis: Axes) -> list[str]:
    """What is written on axes."""
    return [text.get_text() for text in axis.texts]


def test_large_regions_bear_the_first_of_their_names_and_ignored_ones_none(axes: list[Axes]) -> None:
    labels = torch.full((20, 30), 255)
    labels[:, :12] = 0
    labels[0, 29] = 2  # too small for a name
    assert draw_labels(axes, IMAGE, [labels, torch.ones(20, 30, dtype=torch.int64)], CLASSES, axes) == {0, 1, 2}
    assert [words(axis) for axis in axes] == [["sky"], ["sea"]]


def test_depth_has_the_range_of_what_is_drawn_first_and_a_scale(axes: list[Axes]) -> None:
    truth = torch.linspace(1, 5, 600).reshape(20, 30)
    truth[0] = 0
    assert draw_depth(axes, IMAGE, [truth, 9 * truth], CLASSES, axes) == set()
    norms = [axis.images[0].norm for axis in axes]
    assert norms[0] is norms[1] and norms[0].vmax == 5 and norms[0].vmin > 1
    assert np.ma.getmaskarray(np.ma.masked_invalid(axes[0].images[0].get_array()))[0].all()
    (scale,) = set(axes[0].figure.axes) - set(axes)
    assert scale.get_yticklabels()[-1].get_text() == "5 m"


@pytest.mark.parametrize("missing", [0, -1, torch.inf, torch.nan])
def test_missing_depth_is_white_and_has_no_part_in_the_range(axes: list[Axes], missing: float) -> None:
    truth = torch.linspace(1, 5, 600).reshape(20, 30)
    truth[0] = missing
    draw_depth(axes, IMAGE, [truth, truth], CLASSES, axes)
    shown = axes[0].images[0]
    assert (shown.norm.vmin, shown.norm.vmax) == (truth[1, 0], 5)
    assert np.array_equal(np.ma.getmaskarray(shown.get_array()).all(1), np.arange(20) == 0)
    axes[0].figure.canvas.draw()


def test_depth_without_a_reading_has_no_scale(axes: list[Axes]) -> None:
    draw_depth(axes, IMAGE, [torch.zeros(20, 30), torch.ones(20, 30)], CLASSES, axes)
    assert axes[0].figure.axes == axes


def test_objects_bear_their_class_and_detections_their_score_if_it_is_high_enough(axes: list[Axes]) -> None:
    boxes = {"boxes": torch.tensor([[1.0, 2, 9, 9], [5, 5, 20, 15], [0, 0, 3, 3]]), "labels": torch.tensor([0, 1, 2])}
    found = {**boxes, "scores": torch.tensor([0.5, 0.91, 0.49])}
    assert draw_boxes(axes, IMAGE, [boxes, found], CLASSES, axes) == {0, 1, 2}
    assert [words(axis) for axis in axes] == [["sky", "sea", "cat"], ["sky 0.50", "sea 0.91"]]
    assert draw_boxes(axes[:1], IMAGE, [found], CLASSES, axes) == {0, 1}
