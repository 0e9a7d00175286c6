"""Average precision of boxes by the rules of Pascal VOC, which know difficult objects, and by those of COCO."""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor
from torchvision.ops import box_iou

from tadp_ray.errors import UserError
from tadp_ray.processes import collect

Boxes = Mapping[str, Tensor]
Curve = tuple[np.ndarray, np.ndarray]
"""(recall, precision) after each detection, most confident first; both in [0, 1]."""

OVERLAPS = tuple(percent / 100 for percent in range(50, 100, 5))
RECALLS = np.linspace(0, 1, 11)


class DetectionMetrics:
    """Detections and objects of a data set, and their average precision in percent.

    Boxes are edges in pixels, so that x2 - x1 is the width. VOC's files name the first and last pixel, counted from 1: take
    1 from x1 and y1. Overlaps are then those of the published evaluator (TADP/utils/pascal_voc_evaluation.py), which adds
    1 to widths instead. Unlike it, no score is rounded to 3 decimals, and a class without objects is left out.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self._classes = tuple(classes)
        self._images: list[tuple[Boxes, Boxes]] = []

    def accumulate(self, predictions: Sequence[Boxes], targets: Sequence[Boxes]) -> None:
        """Keep what was found in some images and what there is.

        Args:
            predictions: per image boxes (N, 4) xyxy, scores (N,) and labels (N,), int64 class index from 0, on the CPU.
            targets: per image boxes (M, 4), labels (M,) and difficult (M,), bool: no loss to miss, no fault to find. Where
                there is crowd (M,), bool, COCO's figures take those objects for crowds; they must be difficult too.
        """
        self._images += zip(predictions, targets, strict=True)

    def reduce(self) -> None:
        """Gather the images of all processes, in the order of the data set."""
        self._images = collect(self._images)

    @property
    def images(self) -> list[dict[str, Any]]:
        """What each image adds to ap50: labels, scores and whether right of its judged detections, labels of its objects.

        Whether a detection is right depends on its own image alone, so any choice of images can be scored from this.
        """
        ranked = rank(self._images, len(self._classes)) if self._images else []
        verdicts = [one.verdict(0.5) for one in ranked]
        columns = {
            "labels": [np.full(judged.sum(), label) for label, (_, judged) in enumerate(verdicts)],
            "scores": [one.scores[judged] for one, (_, judged) in zip(ranked, verdicts, strict=True)],
            "right": [right[judged].astype(int) for right, judged in verdicts],
        }
        place = np.concatenate([one.image[judged] for one, (_, judged) in zip(ranked, verdicts, strict=True)] or [[]])
        order = place.argsort(kind="stable")
        cuts = np.searchsorted(place[order], range(1, len(self._images)))
        parts = {name: np.split(np.concatenate(column)[order], cuts) for name, column in columns.items() if ranked}
        return [
            {name: part[i].tolist() for name, part in parts.items()}
            | {"objects": target["labels"][~target["difficult"]].tolist()}
            for i, (_, target) in enumerate(self._images)
        ]

    def compute(self) -> dict[str, float]:
        """Means over the classes that have objects which are not difficult, in percent.

        ap, ap50, ap75: VOC's area under the curve (2010 and later); ap is the mean over overlaps of 0.5, 0.55 .. 0.95, the
        published "AP". ap_voc07, ap50_voc07: VOC's mean over 11 recalls (2007). coco_ap, coco_ap50, coco_ap75: COCO's,
        in which any number of detections may lie in a crowd, and difficult objects are ignored. ap50/<class>: of one class.

        Raises:
            UserError: no class has objects.
        """
        found = rank(self._images, len(self._classes)) if self._images else ()
        ranked = {name: one for name, one in zip(self._classes, found, strict=False) if one.objects}
        if not ranked:
            raise UserError(f"none of {len(self._images)} images holds an object that is not difficult")

        def mean(measure: Callable[[Curve], float], *overlaps: float) -> float:
            return float(np.mean([measure(found.curve(least)) for found in ranked.values() for least in overlaps]))

        return {
            "ap": mean(area, *OVERLAPS),
            "ap50": mean(area, 0.5),
            "ap75": mean(area, 0.75),
            "ap_voc07": mean(eleven_points, *OVERLAPS),
            "ap50_voc07": mean(eleven_points, 0.5),
            **coco(self._images, len(self._classes)),
            **{f"ap50/{name}": area(found.curve(0.5)) for name, found in ranked.items()},
        }


@dataclass(frozen=True)
class Ranked:
    """A class's D detections over the data set, most confident first, each with the object it overlaps most."""

    overlap: np.ndarray
    """(D,) intersection over union with that object, 0 where the image has none."""
    taken: np.ndarray
    """(D,) the object's number within the data set."""
    difficult: np.ndarray
    """(D,) whether the object is difficult."""
    scores: np.ndarray
    """(D,) confidence."""
    image: np.ndarray
    """(D,) the image's number."""
    objects: int
    """How many objects there are to find, difficult ones not counted."""

    def verdict(self, least: float) -> tuple[np.ndarray, np.ndarray]:
        """Which detections (D,) are right (0 or 1), and which are judged at all, an overlap above `least` being a hit.

        A hit on a difficult object is neither right nor wrong. Of several hits on one object the first is right and the
        others are wrong, even if they overlap another object that nobody found.
        """
        hit = self.overlap > least
        judged = ~(hit & self.difficult)
        candidates = np.flatnonzero(hit & judged)
        right = np.zeros(len(hit))
        right[candidates[np.unique(self.taken[candidates], return_index=True)[1]]] = 1
        return right, judged

    def curve(self, least: float) -> Curve:
        """Recall and precision, an overlap above `least` being a hit."""
        right, judged = self.verdict(least)
        found = right.cumsum()
        # Before the first judged detection nothing was found either: 0 over 1.
        return found / self.objects, found / np.maximum(judged.cumsum(), 1)


def rank(images: Sequence[tuple[Boxes, Boxes]], classes: int) -> list[Ranked]:
    """Find the object of each detection and put each class's detections in order, equal scores in order of images."""
    columns, seen = [], 0
    for number, (prediction, target) in enumerate(images):
        same = prediction["labels"][:, None] == target["labels"]
        # Two boxes without an area overlap by 0 of 0.
        overlaps = same * box_iou(prediction["boxes"].double(), target["boxes"].double()).nan_to_num(0)
        # A last column stands for "no object", so that every image has one to overlap.
        overlap, best = F.pad(overlaps, (0, 1)).max(1)
        difficult = F.pad(target["difficult"], (0, 1))[best]
        scores, place = prediction["scores"], torch.full_like(best, number)
        columns.append((scores, prediction["labels"], overlap, seen + best, difficult, scores, place))
        seen += len(target["difficult"]) + 1
    scores, labels, *found = (torch.cat(column) for column in zip(*columns, strict=True))
    order = scores.argsort(descending=True, stable=True)
    counted = torch.cat([target["labels"][~target["difficult"]] for _, target in images])
    return [
        Ranked(*(column[order][labels[order] == label].numpy() for column in found), int((counted == label).sum()))
        for label in range(classes)
    ]


def area(curve: Curve) -> float:
    """Percent under the curve, precision at a recall being the best at that or any higher recall (VOC from 2010 on)."""
    recall, precision = curve
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(100 * np.sum(np.diff(recall, prepend=0) * envelope))


def eleven_points(curve: Curve) -> float:
    """Percent: the best precision at or above each of the recalls 0, 0.1 .. 1, averaged (VOC 2007)."""
    recall, precision = curve
    return float(100 * np.mean([precision[recall >= least].max(initial=0) for least in RECALLS]))


def coco(images: Sequence[tuple[Boxes, Boxes]], classes: int) -> dict[str, float]:
    """coco_ap, coco_ap50 and coco_ap75 in percent, by pycocotools; equal scores keep the order of the images."""
    objects = [
        # pycocotools overwrites an object's "ignore" by "iscrowd", but ignores as well what is smaller than nothing.
        row | {"iscrowd": int(crowd), "area": -1 if difficult and not crowd else row["area"]}
        for row, (difficult, crowd) in rows((marked(target) for _, target in images), "marks")
    ]
    detections = [row | {"score": score} for row, score in rows((found for found, _ in images), "scores")]
    frame = {"images": [{"id": n} for n in range(len(images))], "categories": [{"id": n} for n in range(classes)]}
    with redirect_stdout(io.StringIO()):
        truth, found = COCO(), COCO()
        for side, annotations in ((truth, objects), (found, detections)):
            side.dataset = {**frame, "annotations": annotations}
            side.createIndex()
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(("coco_ap", "coco_ap50", "coco_ap75"), (100 * evaluation.stats[:3]).tolist(), strict=True))


def marked(target: Boxes) -> Boxes:
    """An image's objects with marks (M, 2), bool: whether each is difficult, and whether it is a crowd."""
    difficult = target["difficult"]
    return {**target, "marks": torch.stack([difficult, target.get("crowd", torch.zeros_like(difficult))], 1)}


def rows(images: Iterable[Boxes], extra: str) -> Iterator[tuple[dict, Any]]:
    """Every box as a COCO annotation (left, top, width, height), with what its image holds of it under `extra`."""
    boxes = (
        (image, *box)
        for image, held in enumerate(images)
        for box in zip(held["labels"].tolist(), held["boxes"].tolist(), held[extra].tolist(), strict=True)
    )
    # Ids start at 1, since pycocotools takes a 0 for "unmatched".
    for number, (image, label, (x1, y1, x2, y2), value) in enumerate(boxes, 1):
        box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
        yield {"id": number, "image_id": image, "category_id": label, **box}, value
