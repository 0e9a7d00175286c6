"""The task of monocular depth: depth maps in metres, the scale-invariant logarithmic loss, RMSE."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tadp_ray.config.recipe import Recipe
from tadp_ray.data.sample import Sample
from tadp_ray.registry import deferred
from tadp_ray.tasks.base import Task, bilinear, dense_loss, resize_map, written
from tadp_ray.tasks.depth.files import write_metres
from tadp_ray.tasks.depth.losses import silog_loss
from tadp_ray.tasks.depth.metrics import DepthMetrics
from tadp_ray.tasks.files import MapFiles


def depth(recipe: Recipe) -> Task:
    """Return the depth task of a recipe, with its evaluation settings."""
    head, evaluation = recipe.model.head, recipe.evaluation

    def metrics(_: Sequence[str]) -> DepthMetrics:
        return DepthMetrics(head.max_depth, evaluation.eigen_crop)

    def score_options(folder: Path) -> dict[str, Any]:
        scales = {"prediction_scale": [1.0], "target_scale": 1.0, "max_depth": head.max_depth}
        return {**written(folder), **scales, "eigen_crop": evaluation.eigen_crop}

    return Task(
        truth="depth",
        target=depth_of,
        resize=resize_map,
        upsample=bilinear,
        loss=depth_loss,
        probabilities=lambda metres: metres,
        predict=lambda metres: metres[:, 0].cpu(),
        draw=deferred("tadp_ray.tasks.depth.drawing:draw_depth"),
        arrays=lambda metres: {"depth": metres.float().numpy()},
        metrics=metrics,
        logged_metrics=("rmse", "abs_rel", "delta1"),
        files=partial(MapFiles, write_metres),
        write=write_metres,
        score_options=score_options,
        counted_loss=dense_loss(depth_loss, torch.float32),
        names_classes=False,
    )


def depth_loss(metres: Tensor, target: Tensor) -> Tensor:
    """Return the loss of predicted metres (B, 1, h, w), upsampled to the size of their target (B, H, W)."""
    return silog_loss(bilinear(metres, target.shape[-2:])[:, 0], target)


def depth_of(sample: Sample) -> Tensor:
    """Return the depth in metres (H, W), float32."""
    return torch.from_numpy(sample.truth("depth").astype("float32"))
