"""Scores folders of label maps, and compares systems by them."""

import math
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from tadp_ray.data.sample import IGNORE
from tadp_ray.errors import UserError
from tadp_ray.pictures.comparison import Comparison, Folders, ImageScore
from tadp_ray.tasks.compare import compare_maps
from tadp_ray.tasks.pairs import accumulate_pairs
from tadp_ray.tasks.segmentation.drawing import draw_labels
from tadp_ray.tasks.segmentation.files import label_reader
from tadp_ray.tasks.segmentation.metrics import SegmentationMetrics

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
    """Return miou, accuracy and iou/<class> in percent, and the number of images.

    Args:
        predictions: folder of label maps; file names match the targets except for the suffix.
        targets: folder of label maps.
        classes: class names in label order.
        ignore: target values of no class; their pixels are not scored.
        reduce_zero_label: in both folders label k is class k-1, and 0 is no class (ADE20K's convention).

    Raises:
        UserError: files are missing, superfluous or unreadable, have another size than their target, or contain values of
            no class; predictions may contain such values where the target is not scored.
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
    """Return a comparison of label maps by the mean IoU of each image; arguments as for `score_segmentation`.

    Raises:
        UserError: files of a folder are missing, superfluous or do not fit; the message lists them.
    """
    read = label_reader(classes, ignore, reduce_zero_label)
    scorers = {name: (SegmentationMetrics(classes), read) for name in systems}
    return compare_maps(systems, targets, images, tuple(classes), scorers, "segmentation", SCORE, draw_labels, correct)


def correct(found: Tensor, truth: Tensor) -> Tensor:
    """Return 1 for pixels with the correct label, otherwise 0."""
    return ((found == truth) & (truth != IGNORE)).double()
