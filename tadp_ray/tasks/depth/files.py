"""Reads depth maps as 16-bit PNG or .npy in given units, and writes predictions as .npy in metres."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tadp_ray.data.images import FARTHEST, NEAREST, read_metres
from tadp_ray.errors import UserError
from tadp_ray.tasks.depth.metrics import DepthMetrics
from tadp_ray.tasks.files import save
from tadp_ray.tasks.pairs import Pair, Read, same_size


def write_metres(path: Path, metres: Tensor) -> Path:
    """Write a depth map (H, W) in metres as float32 .npy and return the file; `path` has no suffix."""
    # A name may contain dots.
    path = path.with_name(path.name + ".npy")
    save(path, metres.cpu().float().numpy())
    return path


def depth_reader(metrics: DepthMetrics, prediction_scale: float, target_scale: float) -> Read:
    """Return a reader of a pair of depth maps as float32 metres; errors as for `score_depth`.

    Args:
        metrics: determine which pixels are scored.
        prediction_scale: units per metre of the predictions.
        target_scale: units per metre of the targets.
    """

    def read(prediction: Path, target: Path) -> Pair:
        depths = checked_metres(prediction, prediction_scale), checked_metres(target, target_scale)
        if (deepest := deepest_of(depths[1])) > FARTHEST:
            raise UserError(
                f"{target}: its deepest value is {deepest:g} m at {target_scale:g} units per metre, farther than anything that "
                "is measured; say the units per metre of the targets"
            )
        found, truth = map(torch.from_numpy, depths)
        same_size(prediction, found.shape, target, truth.shape)
        try:
            scored = metrics.scored(truth)
        except UserError as error:
            raise UserError(f"{target}: {error}") from None
        absent = int((scored & ~(found > 0)).sum())
        if absent:
            raise UserError(f"{prediction}: {absent} scored pixels hold no depth above 0; predict one for every pixel")
        return found, truth

    return read


def checked_metres(path: Path, scale: float) -> np.ndarray:
    """Read a depth map with `scale` units per metre as float32 (H, W) metres.

    Raises:
        UserError: the file cannot be read, is not a depth map, or is in metres although `scale` is larger than 1.
    """
    metres = read_metres(path, scale)
    if scale > 1 and 0 < (deepest := deepest_of(metres)) < NEAREST:
        raise UserError(
            f"{path}: no value is above {deepest * scale:g}, which is {deepest:g} m at {scale:g} units per metre, so these "
            f"must be metres; write them times {scale:g}, before rounding, or say 1 unit per metre"
        )
    return metres


def deepest_of(metres: np.ndarray) -> np.float32:
    """Return the deepest finite value of a depth map, 0 without one."""
    return np.max(metres, where=np.isfinite(metres), initial=0)
