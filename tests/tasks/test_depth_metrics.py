"""What is scored of a depth map, and what is not."""

import math

import pytest
import torch

from tadp_ray.errors import UserError
from tadp_ray.tasks.depth.metrics import DepthMetrics


def test_figures_of_a_hand_worked_image() -> None:
    """Of four pixels one has no reading and one is too far; the others are predicted 4 for 2 and 4 for 4."""
    metrics = DepthMetrics()
    metrics.accumulate(torch.tensor([[[4.0, 4.0, 7.0, 7.0]]]), torch.tensor([[[2.0, 4.0, 0.0, 10.0]]]))
    assert metrics.compute() == {
        "delta1": 0.5,
        "delta2": 0.5,
        "delta3": 0.5,
        "abs_rel": pytest.approx(0.5),
        "sq_rel": pytest.approx(1.0),
        "rmse": pytest.approx(math.sqrt(2)),
        "rmse_log": pytest.approx(math.log(2) / math.sqrt(2)),
        "log10": pytest.approx(math.log10(2) / 2),
        "silog": pytest.approx(math.log(2) * math.sqrt(0.5 - 0.5 * 0.25)),
    }


def test_every_image_weighs_the_same_and_one_without_depth_nothing() -> None:
    metrics = DepthMetrics()
    target = torch.ones(3, 1, 4)
    target[1, 0, 1:] = 0
    target[2] = 0
    metrics.accumulate(torch.tensor([1.0, 3.0, 9.0])[:, None, None].expand(3, 1, 4), target)
    assert metrics.compute()["rmse"] == 1  # over pixels it would be sqrt(4 / 5)
    assert metrics.compute()["images_without_depth"] == 1


def test_predictions_that_are_no_numbers_count_as_the_ends_of_the_range() -> None:
    metrics = DepthMetrics(max_depth=5)
    metrics.accumulate(torch.tensor([[[math.inf, math.nan]]]), torch.tensor([[[1.0, 2.001]]]))
    assert metrics.compute()["rmse"] == pytest.approx(math.sqrt((4**2 + 2**2) / 2))


def test_the_eigen_crop_is_that_of_nyuv2() -> None:
    metrics, target = DepthMetrics(eigen_crop=True), torch.ones(1, 480, 640)
    rows, columns = torch.where(metrics.scored(target)[0])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (45, 470, 41, 600)
    with pytest.raises(UserError, match="480x640, this one is 240x320"):
        metrics.accumulate(target[:, ::2, ::2], target[:, ::2, ::2])


def test_a_data_set_without_depth_in_range_is_refused() -> None:
    metrics = DepthMetrics()
    metrics.accumulate(torch.ones(2, 3, 3), torch.full((2, 3, 3), 1500.0))
    with pytest.raises(UserError, match="none of 2 images .* are the depths in metres"):
        metrics.compute()
