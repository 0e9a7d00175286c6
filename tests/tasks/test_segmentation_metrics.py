"""Scores of segmentation against mmsegmentation's own."""

import math

import pytest
import torch
from mmseg.evaluation.metrics import IoUMetric

from tadp_ray.tasks.segmentation.metrics import SegmentationMetrics

CLASSES = ("sky", "road", "tree", "boat")


def test_scores_equal_mmseg() -> None:
    """Intersections and unions are counted over the data set, not averaged over images."""
    rng = torch.Generator().manual_seed(0)
    metrics = SegmentationMetrics(CLASSES)
    areas = []
    for size in ((2, 11, 7), (3, 5, 9), (1, 30, 4)):
        # "boat" is never labelled and only predicted: IoU 0, which counts.
        mask = torch.randint(3, size, generator=rng)
        mask[torch.rand(size, generator=rng) < 0.2] = 255
        predicted = torch.where(torch.rand(size, generator=rng) < 0.6, mask % 255, 3)
        metrics.accumulate(predicted, mask)
        areas.append(IoUMetric.intersect_and_union(predicted, mask, len(CLASSES), 255))
    totals = [sum(parts) for parts in zip(*areas, strict=True)]
    expected = IoUMetric.total_area_to_metrics(*totals, metrics=["mIoU"])
    found = metrics.compute()
    assert found["accuracy"] == pytest.approx(100 * expected["aAcc"], abs=1e-4)
    assert found["miou"] == pytest.approx(100 * expected["IoU"].mean(), abs=1e-4)
    for name, iou in zip(CLASSES, expected["IoU"], strict=True):
        assert found[f"iou/{name}"] == pytest.approx(100 * iou, abs=1e-4)


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
