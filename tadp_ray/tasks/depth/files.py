"""Depth maps as files: PNG of 16 bits in units that are said, or .npy; predictions are written as .npy in metres."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tadp_ray.data.images import read_values
from tadp_ray.errors import UserError
from tadp_ray.files import why_unreadable
from tadp_ray.tasks.depth.metrics import DepthMetrics
from tadp_ray.tasks.files import save
from tadp_ray.tasks.pairs import Pair, Read, same_size

NEAR, FAR = 0.02, 1000.0
"""Metres: a depth map whose deepest value is less, or a target with more, is in other units than said."""


def write_metres(path: Path, metres: Tensor) -> Path:
    """Write a depth map (H, W) in metres as .npy, float32, and return the file; `path` is without ending."""
    # A name may hold dots.
    path = path.with_name(path.name + ".npy")
    save(path, metres.cpu().float().numpy())
    return path


def depth_reader(metrics: DepthMetrics, prediction_scale: float, target_scale: float) -> Read:
    """Reads a pair of depth maps as float32 metres; its arguments, and what it refuses, as `score_depth`'s.

    Args:
        metrics: tell which pixels are scored.
        prediction_scale: units per metre.
        target_scale: the same of the targets.
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
    """A depth map of `scale` units per metre as float32 (H, W) metres.

    Raises:
        UserError: the file cannot be read, is no map of depth, or holds metres where smaller units are said.
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
        # What float32 does not hold is infinitely far.
        return torch.from_numpy((values / scale).astype(np.float32))


def read_array(path: Path) -> np.ndarray:
    """The numbers (height, width) of a .npy file, which is mapped: a header that promises more than there is costs nothing.

    Raises:
        UserError: it holds something else.
    """
    if why := why_unreadable(path):
        raise UserError(f"{path}: {why}")
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception:
        # Of a damaged or foreign header numpy raises nearly anything; nothing but the file is read here.
        raise UserError(f"{path}: cannot be read as an array of numbers; write it by numpy.save") from None
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype.kind not in "fiu" or not values.size:
        found = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else "an archive of arrays"
        raise UserError(f"{path}: expected numbers (height, width), this is {found}")
    return values
