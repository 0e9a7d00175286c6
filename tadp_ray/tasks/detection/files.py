"""Boxes as COCO writes them: one file of objects and one of detections."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tadp_ray.files import write_text
from tadp_ray.layout import PREDICTIONS, TARGETS


class BoxFiles:
    """One file of objects and one of detections."""

    def __init__(self, classes: Sequence[str]) -> None:
        self._categories = [{"id": number, "name": name} for number, name in enumerate(classes, 1)]
        self._images: list[dict[str, Any]] = []
        self._objects: list[dict[str, Any]] = []
        self._detections: list[dict[str, Any]] = []

    @property
    def classes(self) -> list[str]:
        """Those with an object: others have no score."""
        named = {thing["category_id"] for thing in self._objects}
        return [category["name"] for category in self._categories if category["id"] in named]

    def add(self, folder: Path, name: str, size: tuple[int, int], wanted: dict, found: dict) -> None:
        """Remember an image's objects and detections."""
        height, width = size
        self._images.append({"id": name, "file_name": f"{name}.png", "height": height, "width": width})
        self._objects += entries(name, wanted, "difficult")
        self._detections += entries(name, found, "scores", "score")

    def end(self, folder: Path) -> None:
        """Write both files."""
        truth = {"images": self._images, "categories": self._categories, "annotations": self._objects}
        for name, content in ((TARGETS, truth), (PREDICTIONS, self._detections)):
            write_text(folder / f"{name}.json", json.dumps(content) + "\n")


def entries(image: str, boxes: dict[str, torch.Tensor], key: str, called: str | None = None) -> list[dict[str, Any]]:
    """One image's boxes as COCO writes them, with one more value of each."""
    columns = (boxes[name].tolist() for name in ("boxes", "labels", key))
    return [
        {
            "image_id": image,
            "category_id": label + 1,
            "bbox": [left, top, right - left, bottom - top],
            called or key: value,
        }
        for (left, top, right, bottom), label, value in zip(*columns, strict=True)
    ]
