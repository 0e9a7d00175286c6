"""Scores of segmentation, of masks so small that they are counted by hand."""

import math

import pytest
import torch

from tadp_ray.tasks.segmentation.metrics import SegmentationMetrics

CLASSES = ("sky", "road", "tree", "boat")


def test_a_class_that_occurs_nowhere_has_no_part_in_the_mean() -> None:
    metrics = SegmentationMetrics(CLASSES)
    metrics.accumulate(torch.tensor([[[0, 0, 1, 1]]]), torch.tensor([[[0, 1, 1, 255]]]))
    assert metrics.compute() == {
        "miou": pytest.approx(50),
        "accuracy": pytest.approx(200 / 3),
        "iou/sky": pytest.approx(50),
        "iou/road": pytest.approx(50),
    }


def test_a_perfect_prediction_scores_a_hundred() -> None:
    metrics = SegmentationMetrics(CLASSES)
    mask = torch.tensor([[[0, 1], [2, 255]]])
    metrics.accumulate(mask % 255, mask)
    assert math.isclose(metrics.compute()["miou"], 100)


def test_the_mean_over_things_leaves_stuff_out() -> None:
    metrics = SegmentationMetrics(CLASSES, things=("tree", "boat", "whale"))
    metrics.accumulate(torch.tensor([[[0, 2, 2, 3]]]), torch.tensor([[[0, 0, 2, 2]]]))
    found = metrics.compute()
    assert found["iou/tree"] == pytest.approx(100 / 3) and found["iou/boat"] == 0
    assert found["miou_things"] == pytest.approx(50 / 3)
    assert found["miou"] == pytest.approx((50 + 100 / 3) / 3)
    metrics = SegmentationMetrics(CLASSES, things=("tree",))
    metrics.accumulate(torch.tensor([[[0, 1]]]), torch.tensor([[[0, 0]]]))
    assert "miou_things" not in metrics.compute()
