"""Label maps in folders: scored, or compared system by system."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from tadp_ray.data.sample import IGNORE
from tadp_ray.errors import UserError
from tadp_ray.pictures.comparison import Comparison, Folders, ImageScore
from tadp_ray.tasks.compare import compare_maps
from tadp_ray.tasks.pairs import accumulate_pairs
from tadp_ray.tasks.segmentation.drawing import draw_labels
from tadp_ray.tasks.segmentation.files import label_reader
from tadp_ray.tasks.segmentation.metrics import SegmentationMetrics
from tadp_ray.tasks.segmentation.per_image import SegmentationImages

SCORE = ImageScore(
    meaning="mean IoU of the classes that the image shows, in percent",
    text="mIoU {:.1f} %",
    pixels="correct pixels",
)


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
    pairs = accumulate_pairs(predictions, targets, metrics.accumulate, read)
    scores = metrics.compute()
    if math.isnan(scores["miou"]):
        raise UserError(f"{targets}: no pixel is labelled with a class")
    return scores | {"images": len(pairs)}


def compare_segmentation(
    systems: Folders,
    targets: Path,
    images: Path,
    classes: Sequence[str],
    ignore: Sequence[int] = (IGNORE,),
    reduce_zero_label: bool = False,
) -> Comparison:
    """Label maps, an image scored by the mean IoU of the classes that it shows; arguments as `score_segmentation`'s.

    Raises:
        UserError: files of any folder are missing, left over or do not fit; they are named.
    """
    read = label_reader(classes, ignore, reduce_zero_label)
    judges = {name: (SegmentationMetrics(classes), read) for name in systems}

    def scores(lines: Sequence[Mapping]) -> np.ndarray:
        return SegmentationImages("segmentation", tuple(classes), tuple(lines)).image_scores

    return compare_maps(systems, targets, images, tuple(classes), judges, scores, SCORE, draw_labels, right)


def right(found: Tensor, truth: Tensor) -> Tensor:
    """1 where a label is right."""
    return ((found == truth) & (truth != IGNORE)).double()
