"""Reads depth maps as 16-bit PNG or .npy in given units, and writes predictions as .npy in metres."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tadp_ray.data.images import read_array, read_values
from tadp_ray.errors import UserError
from tadp_ray.tasks.depth.metrics import DepthMetrics
from tadp_ray.tasks.files import save
from tadp_ray.tasks.pairs import Pair, Read, same_size

NEAR, FAR = 0.02, 1000.0
"""Metres: a depth map with a smaller maximum, or a target with a larger one, is in other units than given."""


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
        found, truth = read_metres(prediction, prediction_scale), read_metres(target, target_scale)
        if (deepest := truth[truth.isfinite()].max().item() if truth.isfinite().any() else 0.0) > FAR:
            raise UserError(
                f"{target}: its deepest value is {deepest:g} m at {target_scale:g} units per metre, farther than anything that "
                "is measured; say the units per metre of the targets"
            )
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


def read_metres(path: Path, scale: float) -> Tensor:
    """Read a depth map with `scale` units per metre as float32 (H, W) metres.

    Raises:
        UserError: the file cannot be read, is not a depth map, or is in metres although `scale` is larger than 1.
    """
    values = read_array(path) if path.suffix == ".npy" else read_values(path, "a depth map")
    if values.dtype.itemsize == 1:
        raise UserError(f"{path}: 8 bits hold no depth that is worth scoring; write PNG of 16 bits, or .npy")
    deepest = np.max(values, where=np.isfinite(values), initial=0)
    if scale > 1 and 0 < deepest < NEAR * scale:
        raise UserError(
            f"{path}: no value is above {deepest:g}, which is {deepest / scale:g} m at {scale:g} units per metre, so these "
            f"must be metres; write them times {scale:g}, before rounding, or say 1 unit per metre"
        )
    with np.errstate(over="ignore"):
        # Values beyond float32 become infinite.
        return torch.from_numpy((values / scale).astype(np.float32))
