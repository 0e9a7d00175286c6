"""Depth maps in folders: scored, or compared system by system."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tadp_ray.pictures.comparison import Comparison, Folders, ImageScore
from tadp_ray.tasks.compare import compare_maps
from tadp_ray.tasks.depth.drawing import draw_depth
from tadp_ray.tasks.depth.files import depth_reader
from tadp_ray.tasks.depth.metrics import DepthMetrics
from tadp_ray.tasks.depth.per_image import DepthImages
from tadp_ray.tasks.pairs import accumulate_pairs

SCORE = ImageScore(meaning="RMSE in metres, negative", text="RMSE {:.2f} m", pixels="negative squared error")


def score_depth(
    predictions: Path,
    targets: Path,
    prediction_scale: float,
    target_scale: float,
    max_depth: float = 10.0,
    eigen_crop: bool = False,
) -> dict[str, float]:
    """The figures of `DepthMetrics`, and images: how many pairs there are.

    Args:
        predictions: folder of depth maps, PNG of 16 bits or .npy; each is named as its target, apart from the ending.
        targets: folder of depth maps, 0 = no reading.
        prediction_scale: units per metre: 1000 where files hold millimetres, 1 where they hold metres.
        target_scale: the same of the targets.
        max_depth: metres; what is as far or farther is not scored.
        eigen_crop: score the part of an NYUv2 image that is usually scored.

    Raises:
        UserError: files that are missing, left over, unreadable, of another size than their target, in other units than
            said, or without a depth above 0 at a pixel that is scored.
    """
    metrics = DepthMetrics(max_depth, eigen_crop)
    read = depth_reader(metrics, prediction_scale, target_scale)
    pairs = accumulate_pairs(predictions, targets, metrics.accumulate, read)
    return metrics.compute() | {"images": len(pairs)}


def compare_depth(
    systems: Folders,
    targets: Path,
    images: Path,
    prediction_scales: Sequence[float],
    target_scale: float,
    max_depth: float = 10.0,
    eigen_crop: bool = False,
) -> Comparison:
    """Depth maps, an image scored by its RMSE; arguments as `score_depth`'s, the units of each system's files apart.

    Raises:
        UserError: files of any folder are missing, left over or do not fit; they are named.
    """
    judges = {}
    for name, scale in zip(systems, prediction_scales, strict=True):
        metrics = DepthMetrics(max_depth, eigen_crop)
        judges[name] = metrics, depth_reader(metrics, scale, target_scale)

    def near(found: Tensor, truth: Tensor) -> Tensor:
        # What is infinitely far counts as the farthest, as it does in the score.
        return torch.where(metrics.scored(truth), -(found.clamp(max=max_depth) - truth).square(), 0)

    def scores(lines: Sequence[Mapping]) -> np.ndarray:
        return DepthImages("depth", (), tuple(lines)).image_scores

    return compare_maps(systems, targets, images, (), judges, scores, SCORE, draw_depth, near)
