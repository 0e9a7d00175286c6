"""Average precision of boxes as defined by Pascal VOC, with difficult objects, and by COCO."""

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
from tadp_ray.wording import pluralized

Boxes = Mapping[str, Tensor]
Curve = tuple[np.ndarray, np.ndarray]
"""(recall, precision) after each detection, most confident first; both in [0, 1]."""

OVERLAPS = tuple(percent / 100 for percent in range(50, 100, 5))
RECALLS = np.linspace(0, 1, 11)


class DetectionMetrics:
    """Average precision in percent of the detections in a data set.

    Boxes are edges in pixels, so x2 - x1 is the width. VOC's files contain the first and last pixel, counted from 1: subtract
    1 from x1 and y1. Overlaps then equal those of the published evaluator (TADP/utils/pascal_voc_evaluation.py), which adds
    1 to widths instead. Unlike there, scores are not rounded to 3 decimals, and classes without objects are left out.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self._classes = tuple(classes)
        self._images: list[tuple[Boxes, Boxes]] = []

    def accumulate(self, predictions: Sequence[Boxes], targets: Sequence[Boxes]) -> None:
        """Add the detections and objects of some images.

        Args:
            predictions: per image boxes (N, 4) xyxy, scores (N,) and labels (N,), int64 class index from 0, on the CPU.
            targets: per image boxes (M, 4), labels (M,) and difficult (M,), bool: objects that count neither as missed nor
                as found. With crowd (M,), bool, these objects are crowds for COCO's metrics; they must be difficult too.
        """
        self._images += zip(predictions, targets, strict=True)

    def reduce(self) -> None:
        """Gather the images of all processes, in the order of the data set."""
        self._images = collect(self._images)

    @property
    def images(self) -> list[dict[str, Any]]:
        """Per-image records for ap50: labels, scores and correctness of the counted detections, and labels of the objects.

        Whether a detection is correct depends only on its image, so ap50 of any selection of images follows from these.
        """
        records: list[dict[str, Any]] = [
            {"labels": [], "scores": [], "right": [], "objects": target["labels"][~target["difficult"]].tolist()}
            for _, target in self._images
        ]
        for label, one in enumerate(rank(self._images, len(self._classes))):
            right, judged = one.verdict(0.5)
            columns = (one.image, one.scores, right.astype(int))
            for image, score, hit in zip(*(column[judged].tolist() for column in columns), strict=True):
                for key, value in (("labels", label), ("scores", score), ("right", hit)):
                    records[image][key].append(value)
        return records

    def compute(self) -> dict[str, float]:
        """Return the means over the classes with objects that are not difficult, in percent.

        ap, ap50, ap75: VOC's area under the curve (2010 and later); ap is the mean over overlaps of 0.5, 0.55 .. 0.95, the
        published "AP". ap_voc07, ap50_voc07: VOC's mean over 11 recalls (2007). coco_ap, coco_ap50, coco_ap75: COCO's
        metrics, where a crowd may match any number of detections and difficult objects are ignored. ap50/<class>: ap50 of
        one class.

        Raises:
            UserError: no class has objects.
        """
        by_class = rank(self._images, len(self._classes))
        ranked = {name: one for name, one in zip(self._classes, by_class, strict=False) if one.objects}
        if not ranked:
            raise UserError(f"none of {pluralized(len(self._images), 'images')} holds an object that is not difficult")

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
    """(D,) intersection over union with that object, 0 if the image has none."""
    taken: np.ndarray
    """(D,) index of the object in the data set."""
    difficult: np.ndarray
    """(D,) whether the object is difficult."""
    scores: np.ndarray
    """(D,) confidence."""
    image: np.ndarray
    """(D,) index of the image."""
    objects: int
    """Number of objects that are not difficult."""

    def verdict(self, least: float) -> tuple[np.ndarray, np.ndarray]:
        """Return which detections (D,) are correct (0 or 1), and which are counted; an overlap above `least` is a hit.

        A hit on a difficult object is not counted. Of several hits on one object the first is correct and the others are
        wrong, even if they overlap another object without a hit.
        """
        hit = self.overlap > least
        judged = ~(hit & self.difficult)
        candidates = np.flatnonzero(hit & judged)
        right = np.zeros(len(hit))
        right[candidates[np.unique(self.taken[candidates], return_index=True)[1]]] = 1
        return right, judged

    def curve(self, least: float) -> Curve:
        """Return recall and precision; an overlap above `least` is a hit."""
        right, judged = self.verdict(least)
        found = right.cumsum()
        # Before the first counted detection, precision is 0 / 1.
        return found / self.objects, found / np.maximum(judged.cumsum(), 1)


def rank(images: Sequence[tuple[Boxes, Boxes]], classes: int) -> list[Ranked]:
    """Match each detection to an object and sort each class's detections by score, equal scores in order of images.

    Returns: one for each class; none without images.
    """
    if not images:
        return []
    columns, seen = [], 0
    for number, (prediction, target) in enumerate(images):
        same = prediction["labels"][:, None] == target["labels"]
        # The overlap of two boxes without area is 0 / 0.
        overlaps = same * box_iou(prediction["boxes"].double(), target["boxes"].double()).nan_to_num(0)
        # The last column means "no object", so that every image has at least one column.
        overlap, best = F.pad(overlaps, (0, 1)).max(1)
        difficult = F.pad(target["difficult"], (0, 1))[best]
        found = overlap, seen + best, difficult, prediction["scores"], torch.full_like(best, number)
        columns.append((prediction["labels"], *found))
        seen += len(target["difficult"]) + 1
    labels, overlap, taken, difficult, scores, image = (torch.cat(column) for column in zip(*columns, strict=True))
    order = scores.argsort(descending=True, stable=True)
    counted = torch.cat([target["labels"][~target["difficult"]] for _, target in images])

    def ranked(label: int) -> Ranked:
        places = order[labels[order] == label]
        columns = (column[places].numpy() for column in (overlap, taken, difficult, scores, image))
        return Ranked(*columns, objects=int((counted == label).sum()))

    return [ranked(label) for label in range(classes)]


def area(curve: Curve) -> float:
    """Return the area under the curve in percent; precision is the best at this or a higher recall (VOC since 2010)."""
    recall, precision = curve
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(100 * np.sum(np.diff(recall, prepend=0) * envelope))


def eleven_points(curve: Curve) -> float:
    """Return the mean over the recalls 0, 0.1 .. 1 of the best precision at this or a higher recall, in percent (VOC 2007)."""
    recall, precision = curve
    return float(100 * np.mean([precision[recall >= least].max(initial=0) for least in RECALLS]))


def coco(images: Sequence[tuple[Boxes, Boxes]], classes: int) -> dict[str, float]:
    """Return coco_ap, coco_ap50 and coco_ap75 in percent, from pycocotools; equal scores keep the order of the images."""
    objects = [
        # pycocotools overwrites "ignore" with "iscrowd", but also ignores objects outside its range of areas.
        row | {"iscrowd": int(crowd), "area": -1 if difficult else row["area"]}
        for row, (difficult, crowd) in rows((with_flags(target) for _, target in images), "flags")
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


def with_flags(target: Boxes) -> Boxes:
    """Return an image's objects with flags (M, 2), bool: whether each is difficult, and whether it is a crowd."""
    difficult = target["difficult"]
    return {**target, "flags": torch.stack([difficult, target.get("crowd", torch.zeros_like(difficult))], 1)}


def rows(images: Iterable[Boxes], extra: str) -> Iterator[tuple[dict, Any]]:
    """Yield every box as a COCO annotation (left, top, width, height), with its value under the key `extra`."""
    boxes = (
        (image, *box)
        for image, columns in enumerate(images)
        for box in zip(columns["labels"].tolist(), columns["boxes"].tolist(), columns[extra].tolist(), strict=True)
    )
    # Ids start at 1, since 0 means "unmatched" in pycocotools.
    for number, (image, label, (x1, y1, x2, y2), value) in enumerate(boxes, 1):
        box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
        yield {"id": number, "image_id": image, "category_id": label, **box}, value
