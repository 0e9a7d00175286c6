"""Label maps and depth maps against their targets: two folders whose files pair by name."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor

from tadp_ray.data.images import class_table, label_table, read_mask, read_values
from tadp_ray.data.names import find_files
from tadp_ray.data.sample import IGNORE
from tadp_ray.errors import UserError
from tadp_ray.files import why_unreadable
from tadp_ray.scoring.problems import raise_problems
from tadp_ray.tasks.depth.metrics import DepthMetrics
from tadp_ray.tasks.segmentation.metrics import SegmentationMetrics

NEAR, FAR = 0.02, 1000.0
"""Metres: a depth map whose deepest value is less, or a target with more, is in other units than said."""

Pair = tuple[Tensor, Tensor]
"""(prediction (H, W), target (H, W))."""
Read = Callable[[Path, Path], Pair]
"""Reads the files of a prediction and its target; UserError says what is wrong with them."""


def score_segmentation(
    predictions: Path,
    targets: Path,
    classes: Sequence[str],
    ignore: Sequence[int] = (IGNORE,),
    reduce_zero_label: bool = False,
) -> dict[str, float]:
    """miou, accuracy and iou/<class> in percent, and images: how many were scored.

    Args:
        predictions: folder of label maps; each is named as its target, apart from the ending.
        targets: folder of label maps.
        classes: names in label order.
        ignore: target values that belong to no class; pixels that hold them are not scored.
        reduce_zero_label: in both folders label k is class k-1, and 0 is no class (ADE20K's convention).

    Raises:
        UserError: files that are missing, left over, unreadable, of another size than their target, or hold what is no
            class; predictions may do that only where the target is not scored.
    """
    read = label_reader(classes, ignore, reduce_zero_label)
    metrics = SegmentationMetrics(classes)
    pairs = accumulate_pairs(predictions, targets, metrics, read)
    scores = metrics.compute()
    if math.isnan(scores["miou"]):
        raise UserError(f"{targets}: no pixel is labelled with a class")
    return scores | {"images": len(pairs)}


def label_reader(classes: Sequence[str], ignore: Sequence[int] = (IGNORE,), reduce_zero_label: bool = False) -> Read:
    """Reads a pair of label maps as int64, 255 = ignored; its arguments, and what it refuses, as `score_segmentation`'s."""
    of_targets = class_table(len(classes), ignore, reduce_zero_label)
    first = int(reduce_zero_label)
    # Where an ignored value is a class as well, targets mean the one and predictions the other.
    void = dict.fromkeys((*ignore, *range(first)), IGNORE)
    of_predictions = label_table(void | {label + first: label for label in range(len(classes))})
    otherwise = f"is none of the {len(classes)} classes, whose labels are {first} to {len(classes) - 1 + first}"

    def read(prediction: Path, target: Path) -> Pair:
        truth = read_mask(target, of_targets, otherwise)["mask"].astype(np.int64)
        found = read_mask(prediction, of_predictions, otherwise)["mask"].astype(np.int64)
        same_size(prediction, found.shape, target, truth.shape)
        absent = int(((found == IGNORE) & (truth != IGNORE)).sum())
        if absent:
            raise UserError(f"{prediction}: {absent} pixels have no class where {target} has one; predict one there")
        return torch.from_numpy(found), torch.from_numpy(truth)

    return read


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
    pairs = accumulate_pairs(predictions, targets, metrics, depth_reader(metrics, prediction_scale, target_scale))
    return metrics.compute() | {"images": len(pairs)}


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


def accumulate_pairs(
    predictions: Path, targets: Path, metrics: SegmentationMetrics | DepthMetrics, read: Read
) -> dict[str, tuple[Path, Path]]:
    """Count all pairs of two folders; returns their files (prediction, target) by name, in the order of counting.

    Raises:
        UserError: files stand alone, or `read` refused pairs.
    """
    problems: list[str] = []
    found, wanted = by_name(predictions, problems), by_name(targets, problems)
    # Other folders beside the predictions, of pictures say, are none of them.
    folders = {PurePosixPath(stem).parent for stem in wanted}
    found = {stem: path for stem, path in found.items() if PurePosixPath(stem).parent in folders}
    problems += [f"{wanted[stem]}: no prediction of this name in {predictions}" for stem in wanted.keys() - found]
    problems += [f"{found[stem]}: no target of this name in {targets}" for stem in found.keys() - wanted]
    problems.sort()
    for stem in sorted(found.keys() & wanted):
        try:
            predicted, target = read(found[stem], wanted[stem])
        except UserError as error:
            problems.append(str(error))
        else:
            metrics.accumulate(predicted[None], target[None])
    raise_problems(problems)
    return {stem: (found[stem], wanted[stem]) for stem in sorted(wanted)}


def by_name(folder: Path, problems: list[str]) -> dict[str, Path]:
    """Files by their path below a folder, without the ending, and what is wrong with their names added to `problems`.

    Hidden files and those of the operating system are passed over.

    Raises:
        UserError: there is no folder, or nothing in it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder")
    files: dict[str, Path] = {}
    for wild, path in find_files("**/*", folder):
        if (other := files.setdefault(str(wild), path)) != path:
            problems.append(f"{path}: differs from {other.name} by its ending alone; take one of them away")
    if not files:
        raise UserError(f"{folder}: holds no files")
    return files


def same_size(prediction: Path, found: tuple[int, ...], target: Path, truth: tuple[int, ...]) -> None:
    """Check that a prediction is as large as its target.

    Raises:
        UserError: it is not.
    """
    if found != truth:
        raise UserError(
            f"{prediction}: is {tuple(found)} (height, width), its target {target} is {tuple(truth)}; "
            "predict at the target's size"
        )


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
