"""Scores detections in the formats of Pascal VOC and COCO, and compares systems by them."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from tadp_ray.errors import UserError
from tadp_ray.pictures.comparison import Comparison, Folders, ImageScore
from tadp_ray.tasks.compare import images_of, run_all
from tadp_ray.tasks.detection.coco import read_coco, read_results
from tadp_ray.tasks.detection.drawing import draw_boxes
from tadp_ray.tasks.detection.labelled import LabelledBox, Truth
from tadp_ray.tasks.detection.metrics import Boxes, DetectionMetrics
from tadp_ray.tasks.detection.per_image import MIN_SCORE, DetectionImages
from tadp_ray.tasks.detection.voc import read_comp4, read_voc

SCORE = ImageScore(
    meaning=f"hits / (hits + false + missed), in percent, of boxes with a score of at least {MIN_SCORE:g} at an overlap of 0.5",
    text="hits {:.0f} %",
)


def score_detection(
    predictions: Path, targets: Path, classes: Sequence[str], images: Path | None = None
) -> dict[str, float]:
    """Return the metrics of `DetectionMetrics`, and the number of images.

    Args:
        predictions: folder of VOC's comp4_det_test_<class>.txt with lines `image score x1 y1 x2 y2`, pixels counted from 1;
            or a COCO results file, whose category_id is that of the target file, or the position in `classes`, counted from
            1, if the targets are VOC's.
        targets: folder of VOC annotations (XML), where an image's name is its file name without suffix; or a COCO annotation
            file, in which objects with ignore or difficult are difficult. Objects with iscrowd are difficult in VOC's
            metrics; in COCO's metrics they may match any number of detections. With a COCO file, equal scores rank by image
            id.
        classes: class names as in the targets; boxes of other classes are ignored.
        images: list of the images to score, one per line, as in VOC's ImageSets/Main; None: all images of the targets.

    Raises:
        UserError: files are missing or unreadable, images or categories are not in the targets, a class has no objects,
            scores are not numbers, or boxes are invalid.
    """
    truth, _, metrics = accumulate_boxes(predictions, targets, classes, images)
    return metrics.compute() | {"images": len(truth.objects)}


def compare_detection(
    systems: Folders, targets: Path, images: Path, classes: Sequence[str], listed: Path | None
) -> Comparison:
    """Return a comparison of detections by the hit rate of each image; arguments as for `score_detection`.

    Raises:
        UserError: files are missing or invalid.
    """
    results = run_all(
        {name: partial(accumulate_boxes, path, targets, classes, listed) for name, path in systems.items()}
    )
    truth, detections = results[0][0], [found for _, found, _ in results]

    def read(system: int, name: str) -> tuple[Boxes, Boxes]:
        found, objects = detections[system][name], truth.objects[name]
        return tensors(found, classes, detected=True), tensors(objects, classes, detected=False)

    per_image = [DetectionImages("detection", tuple(classes), tuple(metrics.images)) for _, _, metrics in results]
    return Comparison(
        classes=tuple(classes),
        systems=tuple(systems),
        ids=tuple(truth.objects),
        score=SCORE,
        scores=np.stack([each.image_scores for each in per_image]),
        images=images_of(images, truth.objects),
        read=read,
        draw=draw_boxes,
        sizes=truth.sizes,
    )


def accumulate_boxes(
    predictions: Path, targets: Path, classes: Sequence[str], images: Path | None
) -> tuple[Truth, dict[str, list[LabelledBox]], DetectionMetrics]:
    """Accumulate the detections of all images; return the objects, the detections by image, and the metrics."""
    truth = read_voc(targets, images) if targets.is_dir() else read_coco(targets, images)
    spelled = {box.name for boxes in truth.objects.values() for box in boxes}
    absent = [name for name in classes if name not in spelled]
    if absent:
        raise UserError(
            f"{targets}: no object is called {', '.join(absent)}; they are called {', '.join(sorted(spelled)) or '-'}. "
            "A class without objects has no score: leave it out of the classes"
        )
    if predictions.is_dir():
        found = read_comp4(predictions, truth, classes)
    else:
        found = read_results(predictions, truth, classes)
    metrics = DetectionMetrics(classes)
    for image, boxes in truth.objects.items():
        detections = tensors(found[image], classes, detected=True)
        metrics.accumulate([detections], [tensors(boxes, classes, detected=False)])
    return truth, found, metrics


def tensors(boxes: Sequence[LabelledBox], classes: Sequence[str], *, detected: bool) -> Boxes:
    """Return detections, or else objects, of the given classes as tensors for `DetectionMetrics`."""
    counted = [box for box in boxes if box.name in classes]
    found = {
        "boxes": torch.tensor([box.box for box in counted], dtype=torch.float64).reshape(-1, 4),
        "labels": torch.tensor([classes.index(box.name) for box in counted], dtype=torch.int64),
    }
    if detected:
        return {**found, "scores": torch.tensor([box.score for box in counted], dtype=torch.float64)}
    return {
        **found,
        "difficult": torch.tensor([box.difficult for box in counted], dtype=torch.bool),
        "crowd": torch.tensor([box.crowd for box in counted], dtype=torch.bool),
    }
