"""Reads and writes boxes in COCO's format: a JSON file of annotations and one of results."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from tadp_ray.data.coco import CocoBox, read_annotations, read_json
from tadp_ray.data.names import ids_of
from tadp_ray.errors import raise_problems
from tadp_ray.files import write_text
from tadp_ray.layout import PREDICTIONS, TARGETS
from tadp_ray.tasks.detection.labelled import LabelledBox, Truth, selected


class Result(CocoBox):
    """A detection."""

    score: float


def read_coco(path: Path, images: Path | None) -> Truth:
    """Read the objects of an annotation file.

    An image's name is its file name without suffix, and without folders if it is unique. Images are sorted by id, which
    ranks detections of equal scores like COCO's evaluation.

    Raises:
        UserError: the file is not in COCO's format, or lacks images to score.
    """
    file = read_annotations(path)
    name_of = ids_of(image.key for image in file.images)
    names = {str(image.id): name_of[image.key] for image in file.images}
    categories = {category.id: category.name for category in file.categories}
    objects: dict[str, list[LabelledBox]] = {image: [] for image in names.values()}
    for entry in file.annotations:
        box = LabelledBox(categories[entry.category_id], entry.edges, difficult=entry.unscored, crowd=entry.iscrowd)
        objects[names[str(entry.image_id)]].append(box)
    wanted = set(selected(images, objects, path))
    sizes = {names[str(image.id)]: (image.height, image.width) for image in file.images if image.height and image.width}
    return Truth({image: boxes for image, boxes in objects.items() if image in wanted}, names, categories, sizes)


def read_results(path: Path, truth: Truth, classes: Sequence[str]) -> dict[str, list[LabelledBox]]:
    """Read the detections of a results file by image.

    Raises:
        UserError: the file is not in COCO's format, or contains images that are not scored or unknown categories.
    """
    names = truth.categories or dict(enumerate(classes, 1))
    found: dict[str, list[LabelledBox]] = {image: [] for image in truth.objects}
    problems = []
    for number, entry in enumerate(read_json(path, list[Result])):
        image, name = truth.images.get(str(entry.image_id)), names.get(entry.category_id)
        if name is None:
            known = ", ".join(f"{key} {value}" for key, value in names.items())
            problems.append(f"{path}: {number}.category_id={entry.category_id}: none of {known}")
        elif image not in found:
            problems.append(f"{path}: {number}.image_id={entry.image_id!r}: none of the images to be scored")
        else:
            found[image].append(LabelledBox(name, entry.edges, entry.score))
    raise_problems(problems)
    return found


class BoxFiles:
    """Writes one file of objects and one of detections."""

    def __init__(self, classes: Sequence[str]) -> None:
        self._categories = [{"id": number, "name": name} for number, name in enumerate(classes, 1)]
        self._images: list[dict[str, Any]] = []
        self._objects: list[dict[str, Any]] = []
        self._detections: list[dict[str, Any]] = []

    @property
    def classes(self) -> list[str]:
        """The classes with objects; other classes have no average precision."""
        used = {box["category_id"] for box in self._objects}
        return [category["name"] for category in self._categories if category["id"] in used]

    def add(self, folder: Path, name: str, size: tuple[int, int], wanted: dict, found: dict) -> None:
        """Add an image's objects and detections."""
        height, width = size
        self._images.append({"id": name, "file_name": f"{name}.png", "height": height, "width": width})
        self._objects += entries(name, wanted, "difficult")
        self._detections += entries(name, found, "scores", "score")

    def end(self, folder: Path) -> None:
        """Write both files."""
        folder.mkdir(parents=True, exist_ok=True)
        truth = {"images": self._images, "categories": self._categories, "annotations": self._objects}
        for name, content in ((TARGETS, truth), (PREDICTIONS, self._detections)):
            write_text(folder / f"{name}.json", json.dumps(content) + "\n")


def entries(image: str, boxes: Mapping[str, Tensor], key: str, name: str | None = None) -> list[dict[str, Any]]:
    """Return one image's boxes in COCO's format, with the value of `key` under `name`, and `iscrowd` if there are crowds."""
    columns = (boxes[column].tolist() for column in ("boxes", "labels", key))
    crowds = [{"iscrowd": int(crowd)} for crowd in boxes["crowd"].tolist()] if "crowd" in boxes else None
    return [
        {
            "image_id": image,
            "category_id": label + 1,
            "bbox": [left, top, right - left, bottom - top],
            name or key: value,
            **(crowds[place] if crowds else {}),
        }
        for place, ((left, top, right, bottom), label, value) in enumerate(zip(*columns, strict=True))
    ]


def write_boxes(path: Path, found: Mapping[str, Tensor]) -> Path:
    """Write an image's detections as a results file and return it; `path` has no suffix, and its name is the image id."""
    path = path.with_name(path.name + ".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(entries(path.name.removesuffix(".json"), found, "scores", "score")) + "\n")
    return path
