"""Tables name metrics that cells will have; anything else is refused while it is cheap."""

import math
from pathlib import Path

import pytest
import torch

from tadp_ray.config.errors import ConfigError
from tadp_ray.config.metrics import best_first, known_metrics, lower_is_better, metrics_of, unknown_metric
from tadp_ray.config.recipe import Recipe
from tadp_ray.config.resolve import load_experiment
from tadp_ray.tasks.depth.metrics import DepthMetrics
from tadp_ray.tasks.detection.metrics import DetectionMetrics
from tadp_ray.tasks.segmentation.metrics import SegmentationMetrics

BOX = {"boxes": torch.tensor([[0.0, 0, 9, 9]]), "labels": torch.tensor([0])}


def recipe(task: str = "segmentation", head: str = "semantic_fpn", **groups: object) -> Recipe:
    """A recipe of a task."""
    given = {"caption": {"source": "oracle"}, "schedule": {"iterations": 9, "learning_rate": 1e-3}, **groups}
    return Recipe.model_validate({"task": task, "model": {"head": {"kind": head}}, **given})


def names(task: str) -> tuple[str, ...]:
    """Names of a task's metrics."""
    return tuple(metric.name for metric in metrics_of(task))


def test_figures_are_those_of_the_metrics() -> None:
    segmentation = SegmentationMetrics(["a", "b"], things=["a"])
    segmentation.accumulate(torch.tensor([[[0, 1]]]), torch.tensor([[[0, 1]]]))
    assert segmentation.compute().keys() == {*names("segmentation"), "iou/a", "iou/b"}
    depth = DepthMetrics()
    depth.accumulate(torch.ones(1, 2, 2), torch.full((1, 2, 2), 2.0))
    assert tuple(depth.compute()) == names("depth")
    detection = DetectionMetrics(["a"])
    detection.accumulate([{**BOX, "scores": torch.tensor([0.5])}], [{**BOX, "difficult": torch.tensor([False])}])
    assert detection.compute().keys() == {*names("detection"), "ap50/a"}


def test_a_recipe_tells_its_metrics() -> None:
    plain = known_metrics(recipe(), ["a b", "c"])
    assert "miou_things" not in plain and "miou_things" in known_metrics(recipe(), ["a b", "c"], things=["c"])
    assert {"miou", "accuracy", "best_miou", "iou/a b", "iou/c", "caption/val_recall", "seconds"} <= {*plain}
    assert not {"miou/night", "miou/multi_scale", "rmse", "ap50", "best_rmse", "iou/d"} & {*plain}
    more = recipe(data={"kind": "scenes", "extra_styles": ["night"]}, evaluation={"multi_scale": [1.0, 1.25]})
    assert {*known_metrics(more, [])} - {*known_metrics(recipe(), [])} == {"miou/night", "miou/multi_scale"}
    others = {"none": {"source": "null"}, "half": {"source": "oracle", "recall": 0.5}}
    told = recipe(evaluation={"captions": others})
    assert {*known_metrics(told, [])} - {*known_metrics(recipe(), [])} == {
        *(
            "miou/none",
            "caption/val_recall/none",
            "caption/val_truncated/none",
            "miou/half",
            "caption/val_precision/half",
        ),
        *("caption/val_recall/half", "caption/val_truncated/half"),
    }
    depth = known_metrics(recipe("depth", "vpd_depth"), ["a"])
    assert {"rmse", "best_rmse"} <= {*depth} and not {"miou", "iou/a", "ap50/a"} & {*depth}
    assert "ap50/a" in known_metrics(recipe("detection", "faster_rcnn"), ["a"])
    silent = known_metrics(recipe(caption={"source": "null"}), [])
    assert "caption/val_recall" in silent and "caption/val_precision" not in silent


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("mIoU", "did you mean 'miou'?"),
        ("miou/nigth", "did you mean 'miou/night'?"),
        ("iou/roads", "did you mean 'iou/road'?"),
        ("best-miou", "did you mean 'best_miou'?"),
        ("rmse", "valid names: miou, accuracy, best_miou, best_step"),
    ],
)
def test_the_nearest_is_named(metric: str, said: str) -> None:
    known = known_metrics(recipe(data={"kind": "scenes", "extra_styles": ["night"]}), ["road", "sky"])
    assert unknown_metric("iou/road", known) is None
    assert said in unknown_metric(metric, known)
    assert "iou/" not in unknown_metric("rmse", known)


@pytest.mark.parametrize("metric", ["mIoU", "RMSE", "best_mIoU", "miou/", "ap_50", "caption/val_recal"])
def test_what_no_recipe_has_is_refused_at_load(metric: str, experiment: Path) -> None:
    experiment.write_text(experiment.read_text().replace("table:", f"table:\n  metrics: [miou, {metric}]"))
    with pytest.raises(
        ConfigError, match=rf"tiny.yaml: table.metrics='{metric}': no cell ends with .*; did you mean '"
    ):
        load_experiment(experiment)


def test_costs_and_losses_are_better_when_they_are_less() -> None:
    less = "seconds train_seconds_per_step peak_memory_gib peak_gpu_memory_gib parameters loss rmse best_rmse silog"
    for metric in (*less.split(), "caption/val_truncated", "caption/val_truncated/none"):
        assert lower_is_better(metric), metric
    for metric in ("miou", "best_miou", "iou/road", "images_per_second", "matrix_peak_share", "caption/val_recall"):
        assert not lower_is_better(metric), metric


def test_the_best_is_the_highest_overlap_and_the_lowest_error_and_never_no_number() -> None:
    values = [1.0, math.nan, 2.0]
    assert sorted(values, key=best_first("miou"))[:2] == [2.0, 1.0]
    assert sorted(values, key=best_first("rmse"))[:2] == [1.0, 2.0]
