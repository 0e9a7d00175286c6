"""Figures against other people's programs and against numbers from published code."""

import math

import numpy as np
import pytest
import torch
from mmseg.evaluation.metrics import DepthMetric, IoUMetric
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex
from torchmetrics.detection import MeanAveragePrecision

from tadp_ray.tasks.depth.losses import silog_loss
from tadp_ray.tasks.depth.metrics import DepthMetrics
from tadp_ray.tasks.detection.metrics import DetectionMetrics
from tadp_ray.tasks.segmentation.metrics import SegmentationMetrics


def test_segmentation_scores_equal_mmseg_and_torchmetrics() -> None:
    """Intersections and unions are counted over the data set, not averaged over images."""
    rng = torch.Generator().manual_seed(3)
    classes = ("a", "b", "c", "d", "e")
    metrics, areas = SegmentationMetrics(classes), []
    iou = MulticlassJaccardIndex(5, average="none", ignore_index=255)
    accuracy = MulticlassAccuracy(5, average="micro", ignore_index=255)
    for size in ((4, 23, 31), (3, 5, 9), (1, 30, 4)):
        # "e" is never labelled and only predicted: IoU 0, which counts.
        mask = torch.randint(4, size, generator=rng)
        predicted = torch.where(torch.rand(size, generator=rng) < 0.5, mask, torch.randint(5, size, generator=rng))
        mask[torch.rand(size, generator=rng) < 0.2] = 255
        metrics.accumulate(predicted, mask)
        areas.append([area.double() for area in IoUMetric.intersect_and_union(predicted, mask, 5, 255)])
        for theirs in (iou, accuracy):
            theirs.update(predicted, mask)
    totals = [sum(parts) for parts in zip(*areas, strict=True)]
    mmseg, found = IoUMetric.total_area_to_metrics(*totals, metrics=["mIoU"]), metrics.compute()
    for place, name in enumerate(classes):
        assert found[f"iou/{name}"] / 100 == pytest.approx(mmseg["IoU"][place], abs=1e-6)
        assert found[f"iou/{name}"] / 100 == pytest.approx(float(iou.compute()[place]), abs=1e-6)
    assert found["iou/e"] == 0
    assert found["miou"] / 100 == pytest.approx(mmseg["IoU"].mean(), abs=1e-6)
    assert found["accuracy"] / 100 == pytest.approx(float(accuracy.compute()), abs=1e-6)
    assert found["accuracy"] / 100 == pytest.approx(mmseg["aAcc"], abs=1e-6)


@pytest.fixture
def depths() -> tuple[torch.Tensor, torch.Tensor]:
    """Predicted and true depth (3, 480, 640) in metres, a tenth of it without reading, some out of range."""
    rng = torch.Generator().manual_seed(0)
    target = 11 * torch.rand(3, 480, 640, generator=rng)
    predicted = target * (1 + 0.3 * torch.randn(target.shape, generator=rng)).clamp(min=0.2) + 0.01
    target[torch.rand(target.shape, generator=rng) < 0.1] = 0
    return predicted, target


@pytest.mark.parametrize("crop", [False, True])
def test_depth_figures_equal_mmseg(depths: tuple[torch.Tensor, torch.Tensor], crop: bool) -> None:
    predicted, target = depths
    metrics = DepthMetrics(eigen_crop=crop)
    metrics.accumulate(predicted, target)
    theirs = DepthMetric(min_depth_eval=1e-3, max_depth_eval=10.0, crop_type="nyu_crop" if crop else None)
    for found, truth in zip(predicted, target, strict=True):
        theirs.process({}, [{"pred_depth_map": {"data": found}, "gt_depth_map": {"data": truth}}])
    expected = {name.replace("d", "delta") if name[1:].isdigit() else name: 0.0 for name in theirs.METRICS}
    for truth, found in theirs.results:
        for name, value in zip(expected, theirs._calc_all_metrics(truth, found).values(), strict=True):
            expected[name] += value / len(theirs.results)
    assert metrics.compute() == pytest.approx(expected, abs=1e-5)


def test_depth_figures_equal_their_formulas(depths: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Worked anew in numpy; the loss over one image is the figure silog, apart from the loss's epsilon."""
    predicted, target = depths
    metrics = DepthMetrics(max_depth=12)
    metrics.accumulate(predicted[:1], target[:1])
    p, g = (x[0][target[0] > 1e-3].double().numpy() for x in (predicted, target))
    d = np.log(p) - np.log(g)
    found = metrics.compute()
    for power in (1, 2, 3):
        assert found[f"delta{power}"] == pytest.approx(np.mean(np.abs(d) < power * math.log(1.25)), abs=1e-5)
    assert found["abs_rel"] == pytest.approx(np.mean(np.abs(p / g - 1)), rel=1e-5)
    assert found["sq_rel"] == pytest.approx(np.mean(g * (p / g - 1) ** 2), rel=1e-5)
    assert found["rmse"] == pytest.approx(np.linalg.norm(p - g) / math.sqrt(p.size), rel=1e-5)
    assert found["rmse_log"] == pytest.approx(np.linalg.norm(d) / math.sqrt(p.size), rel=1e-5)
    assert found["log10"] == pytest.approx(np.mean(np.abs(d)) / math.log(10), rel=1e-5)
    assert found["silog"] == pytest.approx(math.sqrt(np.var(d) + 0.5 * np.mean(d) ** 2), rel=1e-5)
    known = (target[:1] > 1e-3) * target[:1]
    assert found["silog"] == pytest.approx(float(silog_loss(predicted[:1], known)), abs=1e-5)


NAMES = ("aeroplane", "bicycle", "bird", "boat")
Images = list[dict[str, torch.Tensor]]


@pytest.fixture
def detections() -> tuple[Images, Images]:
    """Detections and objects of 40 images; coordinates to a tenth of a pixel, as files of results have them."""
    rng = np.random.RandomState(0)
    found, there = [], []
    for _ in range(40):
        corner = rng.randint(1, 300, (rng.randint(0, 5), 2))
        truth = np.concatenate([corner - 1, corner + rng.randint(10, 150, corner.shape)], 1).astype(float)
        labels = rng.randint(4, size=len(truth))
        of = np.repeat(np.arange(len(truth)), 3)[rng.permutation(3 * len(truth))][: 2 * len(truth)]
        size = np.tile(truth[of, 2:] - truth[of, :2], 2)
        guessed = (truth[of] + rng.uniform(-0.15, 0.15, (len(of), 4)) * size).round(1)
        named = np.where(rng.rand(len(of)) < 0.85, labels[of], rng.randint(4, size=len(of)))
        found.append(
            {
                "boxes": torch.from_numpy(guessed),
                "scores": torch.from_numpy(rng.rand(len(of))),
                "labels": torch.from_numpy(named),
            }
        )
        hard = torch.from_numpy(rng.rand(len(truth)) < 0.25)
        there.append({"boxes": torch.from_numpy(truth), "labels": torch.from_numpy(labels), "difficult": hard})
    return found, there


def test_coco_scores_equal_torchmetrics(detections: tuple[Images, Images]) -> None:
    found, there = detections
    there = [objects | {"difficult": torch.zeros_like(objects["difficult"])} for objects in there]
    metrics = DetectionMetrics(NAMES)
    metrics.accumulate(found, there)
    # Its own thresholds are rounded to 32 bits, which moves recalls of 1/5 and the like to the other side of a threshold.
    theirs = MeanAveragePrecision(
        iou_thresholds=np.linspace(0.5, 0.95, 10).tolist(), rec_thresholds=np.linspace(0, 1, 101).tolist()
    )
    theirs.update(found, there)
    expected, scores = theirs.compute(), metrics.compute()
    for ours, name in (("coco_ap", "map"), ("coco_ap50", "map_50"), ("coco_ap75", "map_75")):
        assert scores[ours] / 100 == pytest.approx(float(expected[name]), abs=1e-4)


def test_voc_scores_equal_the_published_evaluator(detections: tuple[Images, Images]) -> None:
    """The numbers come from TADP/utils/pascal_voc_evaluation.py (voc_eval), given these boxes counted from 1."""
    metrics = DetectionMetrics(NAMES)
    metrics.accumulate(*detections)
    scores = metrics.compute()
    expected = {
        "ap": 36.848516002346344,
        "ap50": 75.71077562849953,
        "ap75": 20.049184728159076,
        "ap_voc07": 36.57883130592086,
        "ap50_voc07": 74.82072093535209,
        "ap50/aeroplane": 72.03508771929823,
        "ap50/bicycle": 74.8072603654465,
        "ap50/bird": 79.06172124022022,
        "ap50/boat": 76.93903318903318,
    }
    assert {name: scores[name] for name in expected} == pytest.approx(expected, abs=1e-9)
