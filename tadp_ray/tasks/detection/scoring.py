"""Boxes against objects, as Pascal VOC or as COCO writes them: scored, or compared system by system."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from tadp_ray.errors import UserError
from tadp_ray.pictures.comparison import Comparison, Folders, ImageScore
from tadp_ray.tasks.compare import gathered, images_of
from tadp_ray.tasks.detection.coco import read_coco, read_results
from tadp_ray.tasks.detection.drawing import draw_boxes
from tadp_ray.tasks.detection.labelled import LabelledBox, Truth
from tadp_ray.tasks.detection.metrics import Boxes, DetectionMetrics
from tadp_ray.tasks.detection.per_image import SURE, DetectionImages
from tadp_ray.tasks.detection.voc import read_comp4, read_voc

SCORE = ImageScore(
    meaning=f"hits / (hits + false + missed), in percent, of boxes with a score of at least {SURE:g} at an overlap of 0.5",
    text="hits {:.0f} %",
)


def score_detection(
    predictions: Path, targets: Path, classes: Sequence[str], images: Path | None = None
) -> dict[str, float]:
    """The figures of `DetectionMetrics`, and images: how many were scored.

    Args:
        predictions: folder of VOC's comp4_det_test_<class>.txt with lines `image score x1 y1 x2 y2`, pixels counted from 1;
            or a COCO results file, whose category_id is that of the target file, or the place in `classes`, counted from
            1, if the targets are VOC's.
        targets: folder of VOC annotations (XML), an image being called as its file without the ending; or a COCO annotation
            file, in which objects marked ignore or difficult count as difficult. Those marked iscrowd do so in VOC's
            figures; in COCO's, as COCO has it, any number of detections may lie in them. Equal scores rank by image id there.
        classes: names as the targets spell them; what is of another class is left aside.
        images: list of the images to score, one a line, as in VOC's ImageSets/Main; None: all that the targets name.

    Raises:
        UserError: files that are missing or unreadable, images or categories that the targets do not name, a class without
            objects, scores that are no numbers, boxes of no area.
    """
    truth, _, metrics = accumulate_boxes(predictions, targets, classes, images)
    return metrics.compute() | {"images": len(truth.objects)}


def compare_detection(
    systems: Folders, targets: Path, images: Path, classes: Sequence[str], listed: Path | None = None
) -> Comparison:
    """Boxes, an image scored by its hits; arguments as `score_detection`'s.

    Raises:
        UserError: files are missing or not as they should be.
    """
    found = gathered(
        {name: lambda at=at: accumulate_boxes(at, targets, classes, listed) for name, at in systems.items()}
    )
    truth, things = found[0][0], [own for _, own, _ in found]

    def read(system: int, name: str) -> tuple[Boxes, Boxes]:
        return tensors(things[system][name], classes, "scores"), tensors(truth.objects[name], classes, "difficult")

    lines = [DetectionImages("detection", tuple(classes), tuple(metrics.images)) for _, _, metrics in found]
    return Comparison(
        classes=tuple(classes),
        systems=tuple(systems),
        ids=tuple(truth.objects),
        score=SCORE,
        scores=np.stack([own.image_scores for own in lines]),
        images=images_of(images, truth.objects),
        read=read,
        draw=draw_boxes,
    )


def accumulate_boxes(
    predictions: Path, targets: Path, classes: Sequence[str], images: Path | None
) -> tuple[Truth, dict[str, list[LabelledBox]], DetectionMetrics]:
    """Count the detections of all images; returns the objects, the detections by image, and the counts in their order."""
    truth = read_voc(targets, images) if targets.is_dir() else read_coco(targets, images)
    spelled = {thing.name for things in truth.objects.values() for thing in things}
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
    for image, things in truth.objects.items():
        metrics.accumulate([tensors(found[image], classes, "scores")], [tensors(things, classes, "difficult")])
    return truth, found, metrics


def tensors(things: Sequence[LabelledBox], classes: Sequence[str], value: str) -> Boxes:
    """The things of the given classes as `DetectionMetrics` takes them."""
    scored = [thing for thing in things if thing.name in classes]
    kind = torch.bool if value == "difficult" else torch.float64
    return {
        "boxes": torch.tensor([thing.box for thing in scored], dtype=torch.float64).reshape(-1, 4),
        "labels": torch.tensor([classes.index(thing.name) for thing in scored], dtype=torch.int64),
        "crowd": torch.tensor([thing.crowd for thing in scored], dtype=torch.bool),
        value: torch.tensor([thing.value for thing in scored], dtype=kind),
    }
