"""What each image of a validation split adds to a cell's score: a file of JSON lines, and the score of any choice of them.

The first line says what was scored: the training's fingerprint, task, class names, number of images. Every other line is an
image: its id, its prompt, precision and recall of the names in the prompt (null where none is said, or shown), and what the
task's metrics say of it.
Needs no torch.
"""

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tadp_ray.config.metrics import metrics_of
from tadp_ray.errors import UserError
from tadp_ray.files import write_text
from tadp_ray.registry import TASKS

KEYS = {
    "segmentation": ("pixels", "classes", "intersection", "union", "truth"),
    "depth": (),
    "detection": ("labels", "scores", "right", "objects"),
}
"""What a line must hold besides its id, by task; an image without a reading has no figures of depth."""


def write_per_image(
    path: Path, fingerprint: str, task: str, classes: Iterable[str], images: Iterable[Mapping[str, Any]]
) -> None:
    """Write the file, whole or not at all."""
    lines = [json.dumps(image, ensure_ascii=False) for image in images]
    facts = {"fingerprint": fingerprint, "task": task, "classes": list(classes)}
    header = {"per_image": 1, **facts, "images": len(lines), "crc32": checksum(facts, lines)}
    write_text(path, "\n".join([json.dumps(header, ensure_ascii=False), *lines]) + "\n")


def checksum(facts: Mapping[str, Any], lines: Iterable[str]) -> int:
    """CRC-32 of what was scored and of every image's line."""
    return zlib.crc32("\n".join([json.dumps(facts), *lines]).encode())


def read_per_image(path: Path, fingerprint: str) -> "PerImage":
    """The images of the file of a training.

    Raises:
        UserError: it is cut short, of another kind, or of another training.
    """
    try:
        # Not splitlines: a prompt may hold other Unicode line breaks, which JSON leaves as they are.
        first, *lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        header = json.loads(first)
        if header["per_image"] != 1 or header["images"] != len(lines):
            raise ValueError(f"{len(lines)} lines of version {header['per_image']}, not {header['images']} of 1")
        facts = {name: header[name] for name in ("fingerprint", "task", "classes")}
        if facts["fingerprint"] != fingerprint:
            raise ValueError(f"of training {facts['fingerprint']:.16}, not of {fingerprint:.16}")
        if header["crc32"] != checksum(facts, lines):
            raise ValueError("it does not hold what was written")
        if header["task"] not in TASKS:
            raise KeyError(header["task"])
        images = tuple(json.loads(line) for line in lines)
        for number, image in enumerate(images, 2):
            if absent := [key for key in ("id", *KEYS.get(header["task"], ())) if key not in image]:
                raise ValueError(f"line {number} lacks {', '.join(absent)}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: not a whole file of per-image results ({error}); train the cell anew") from None
    return PerImage(facts["task"], tuple(facts["classes"]), images)


@dataclass(frozen=True)
class PerImage:
    """N images as one cell's last evaluation left them."""

    task: str
    classes: tuple[str, ...]
    """C class names, in index order."""
    images: tuple[Mapping[str, Any], ...]

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Image ids."""
        return tuple(image["id"] for image in self.images)

    def column(self, name: str) -> np.ndarray:
        """A figure of every image (N,), NaN where it has none."""
        return np.array([image.get(name) for image in self.images], float)

    def areas(self, name: str) -> np.ndarray:
        """Pixels (N, C) of "intersection", "union" or "truth" of every class in every image."""
        areas = np.zeros((len(self.images), len(self.classes)))
        for own, image in zip(areas, self.images, strict=True):
            own[image["classes"]] = image[name]
        return areas

    @cached_property
    def iou(self) -> np.ndarray:
        """Percent (N, C) of each class in each image; NaN where the image does not show the class."""
        truth, union = self.areas("truth"), self.areas("union")
        return np.divide(100 * self.areas("intersection"), union, out=np.full(union.shape, np.nan), where=truth > 0)

    @cached_property
    def shares(self) -> np.ndarray:
        """Share (N, C) of each image's pixels that a class covers in truth, in [0, 1]."""
        return self.areas("truth") / self.column("pixels")[:, None]

    def scores(self, metric: str, weights: np.ndarray) -> np.ndarray:
        """A metric (R,) of R data sets made of these images, as the task's metrics compute it.

        Args:
            metric: miou, accuracy or iou/<class>; a figure of depth; ap50.
            weights: (R, N), how often each image is in each data set.

        Raises:
            UserError: the metric cannot be told from these images.
        """
        name = metric.removeprefix("iou/")
        if self.task == "segmentation" and (metric in ("miou", "accuracy") or metric != name in self.classes):
            found = weights @ self.areas("intersection")
            if metric == "accuracy":
                return 100 * found.sum(1) / (weights @ self.areas("truth")).sum(1)
            union = weights @ self.areas("union")
            iou = np.divide(100 * found, union, out=np.full(union.shape, np.nan), where=union > 0)
            return np.nanmean(iou, 1) if metric == "miou" else iou[:, self.classes.index(name)]
        if self.task == "depth" and metric in [each.name for each in metrics_of("depth")]:
            values = self.column(metric)
            scored = np.isfinite(values)
            return weights[:, scored] @ values[scored] / weights[:, scored].sum(1)
        if self.task == "detection" and metric == "ap50":
            # A hundred data sets at once, since each has a number for every detection.
            return np.concatenate([self._ap50(part) for part in np.array_split(weights, -(-len(weights) // 100))])
        raise UserError(f"{metric} is not told apart by image for {self.task}")

    def _ap50(self, weights: np.ndarray) -> np.ndarray:
        """VOC's area under the curve at an overlap of 0.5, in percent, averaged over the classes that have objects."""
        owners = np.repeat(np.arange(len(self.images)), [len(image["labels"]) for image in self.images])
        labels, scores, right = (
            np.array([value for image in self.images for value in image[name]])
            for name in ("labels", "scores", "right")
        )
        order = np.argsort(-scores, kind="stable")
        areas = []
        for label in range(len(self.classes)):
            objects = weights @ np.array([image["objects"].count(label) for image in self.images], float)
            ranked = order[labels[order] == label]
            # The curve steps by as many detections as there are copies of their image.
            counts = weights[:, owners[ranked]]
            found = (counts * right[ranked]).cumsum(1)
            precision = found / np.maximum(counts.cumsum(1), 1)
            envelope = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
            area = (np.diff(found, axis=1, prepend=0) * envelope).sum(1)
            areas.append(np.divide(100 * area, objects, out=np.full(len(weights), np.nan), where=objects > 0))
        return np.nanmean(areas, 0)
