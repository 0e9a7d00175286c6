"""Scores folders of depth maps, and compares systems by them."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from tadp_ray.pictures.comparison import Comparison, Folders, ImageScore
from tadp_ray.tasks.compare import compare_maps
from tadp_ray.tasks.depth.drawing import draw_depth
from tadp_ray.tasks.depth.files import depth_reader
from tadp_ray.tasks.depth.metrics import DepthMetrics
from tadp_ray.tasks.pairs import accumulate_pairs

SCORE = ImageScore(meaning="RMSE in metres, negative", text="RMSE {:.3f} m", pixels="negative squared error")


def score_depth(
    predictions: Path,
    targets: Path,
    prediction_scale: float,
    target_scale: float,
    max_depth: float = 10.0,
    eigen_crop: bool = False,
) -> dict[str, float]:
    """Return the metrics of `DepthMetrics`, and the number of images.

    Args:
        predictions: folder of depth maps, 16-bit PNG or .npy; file names match the targets except for the suffix.
        targets: folder of depth maps, 0 = missing.
        prediction_scale: units per metre of the predictions: 1000 for millimetres, 1 for metres.
        target_scale: units per metre of the targets.
        max_depth: metres; pixels at this depth or farther are not scored.
        eigen_crop: score only the usual crop of an NYUv2 image.

    Raises:
        UserError: files are missing, superfluous or unreadable, have another size than their target or other units than
            given, or have no depth above 0 at a scored pixel.
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
    """Return a comparison of depth maps by the RMSE of each image; arguments as for `score_depth`, with a scale per system.

    Raises:
        UserError: files of a folder are missing, superfluous or do not fit; the message lists them.
    """
    scorers = {}
    for name, scale in zip(systems, prediction_scales, strict=True):
        metrics = DepthMetrics(max_depth, eigen_crop)
        scorers[name] = metrics, depth_reader(metrics, scale, target_scale)

    def negative_error(found: Tensor, truth: Tensor) -> Tensor:
        # An infinite prediction counts as the maximum depth, as in the metrics.
        error = found.nan_to_num(posinf=max_depth) - truth
        return torch.where(metrics.scored(truth), -error.square(), 0)

    return compare_maps(systems, targets, images, (), scorers, "depth", SCORE, draw_depth, negative_error)
