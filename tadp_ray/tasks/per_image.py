"""Per-image results of a cell on the validation split: a file of JSON lines, and metrics of any selection of its images.

The first line is a header: fingerprint of the training, task, class names and number of images. Each further line is an
image: its id, its prompt, precision and recall of the classes in the prompt (null if undefined), and the image's record of
the task's metrics. Imports no torch.
"""

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tadp_ray.errors import UserError
from tadp_ray.files import write_text
from tadp_ray.registry import TASKS, implementation


def write_per_image(
    path: Path, fingerprint: str, task: str, classes: Iterable[str], images: Iterable[Mapping[str, Any]]
) -> None:
    """Write the file atomically."""
    lines = [json.dumps(image, ensure_ascii=False) for image in images]
    facts = {"fingerprint": fingerprint, "task": task, "classes": list(classes)}
    header = {"per_image": 1, **facts, "images": len(lines), "crc32": checksum(facts, lines)}
    write_text(path, "\n".join([json.dumps(header, ensure_ascii=False), *lines]) + "\n")


def checksum(facts: Mapping[str, Any], lines: Iterable[str]) -> int:
    """Return the CRC-32 of the header's facts and of every image's line."""
    return zlib.crc32("\n".join([json.dumps(facts), *lines]).encode())


def read_per_image(path: Path, fingerprint: str) -> "PerImage":
    """Read the per-image results of a training.

    Raises:
        UserError: the file is incomplete, damaged, of another kind or of another training.
    """
    try:
        # Not splitlines: a prompt may contain other Unicode line breaks, which JSON does not escape.
        first, *lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        header = json.loads(first)
        if header["per_image"] != 1 or header["images"] != len(lines):
            raise ValueError(f"{len(lines)} lines of version {header['per_image']}, not {header['images']} of 1")
        facts = {name: header[name] for name in ("fingerprint", "task", "classes")}
        if facts["fingerprint"] != fingerprint:
            raise ValueError(f"of training {facts['fingerprint']:.16}, not of {fingerprint:.16}")
        if header["crc32"] != checksum(facts, lines):
            raise ValueError("it does not hold what was written")
        make = images_class(facts["task"])
        images = tuple(json.loads(line) for line in lines)
        for number, image in enumerate(images, 2):
            if absent := [key for key in ("id", *make.keys) if key not in image]:
                raise ValueError(f"line {number} lacks {', '.join(absent)}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: not a whole file of per-image results ({error}); train the cell anew") from None
    return make(facts["task"], tuple(facts["classes"]), images)


def images_class(task: str) -> type["PerImage"]:
    """Return the class of a task's per-image results, from the registry.

    Raises:
        KeyError: there is no such task.
    """
    return implementation(TASKS[task].per_image) or PerImage


@dataclass(frozen=True)
class PerImage:
    """Per-image results of N images from a cell's last evaluation; a task may register a subclass."""

    keys: ClassVar[tuple[str, ...]] = ()
    """Required keys of a line besides its id."""
    task: str
    classes: tuple[str, ...]
    """C class names, in index order."""
    images: tuple[Mapping[str, Any], ...]

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Image ids."""
        return tuple(image["id"] for image in self.images)

    def column(self, name: str) -> np.ndarray:
        """Return a value of every image (N,), NaN where it is missing."""
        return np.array([image.get(name) for image in self.images], float)

    @property
    def image_scores(self) -> np.ndarray:
        """Score (N,) of each image, higher is better, NaN without one; the base class has none.

        Raises:
            UserError: images have no score of their own.
        """
        raise UserError(f"{self.task} gives no score to a single image")

    def counted(self, metric: str) -> np.ndarray:
        """Return which images, bool (N,), a metric depends on; the base class says all."""
        return np.ones(len(self.images), bool)

    def scores(self, metric: str, weights: np.ndarray) -> np.ndarray:
        """Return a metric (R,) of R data sets resampled from these images, equal to the task's metric of such a data set.

        Args:
            metric: name of the metric; the base class has none.
            weights: (R, N), how often each image is in each data set.

        Raises:
            UserError: the metric cannot be computed from per-image results.
        """
        raise UserError(f"{metric} is not told apart by image for {self.task}")


class AreaImages(PerImage):
    """Per-image results of N images with the areas of their classes, for diagrams of IoU."""

    keys: ClassVar = ("pixels", "classes", "intersection", "union", "truth")

    def areas(self, name: str) -> np.ndarray:
        """Return the pixels (N, C) of "intersection", "union" or "truth" of every class in every image."""
        areas = np.zeros((len(self.images), len(self.classes)))
        for row, image in zip(areas, self.images, strict=True):
            row[image["classes"]] = image[name]
        return areas

    @cached_property
    def iou(self) -> np.ndarray:
        """IoU (N, C) of each class in each image in percent; NaN if the class is not in the image."""
        truth, union = self.areas("truth"), self.areas("union")
        return np.divide(100 * self.areas("intersection"), union, out=np.full(union.shape, np.nan), where=truth > 0)

    @cached_property
    def shares(self) -> np.ndarray:
        """Share (N, C) of each image's pixels with the true class, in [0, 1]."""
        return self.areas("truth") / self.column("pixels")[:, None]

    @property
    def present(self) -> list[list[str]]:
        """Names of the true classes of each image."""
        return [[self.classes[label] for label in np.flatnonzero(truth)] for truth in self.areas("truth")]
