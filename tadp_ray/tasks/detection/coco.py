"""Reads and writes boxes in COCO's format: a JSON file of annotations and one of results."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, TypeAdapter, ValidationError
from torch import Tensor

from tadp_ray.data.names import ids_of
from tadp_ray.errors import UserError
from tadp_ray.files import composed, why_unreadable, without_ending, write_text
from tadp_ray.layout import PREDICTIONS, TARGETS
from tadp_ray.tasks.detection.labelled import Box, LabelledBox, Truth, selected
from tadp_ray.tasks.problems import raise_problems

Content = TypeVar("Content")


class CocoEntry(BaseModel):
    """The used keys of an entry; other keys are ignored."""

    model_config = ConfigDict(allow_inf_nan=False)


class Image(CocoEntry):
    """An image of an annotation file."""

    id: int | str
    file_name: str


class Category(CocoEntry):
    """A class of an annotation file."""

    id: int
    name: str


class CocoBox(CocoEntry):
    """A box of an annotation file or a results file."""

    image_id: int | str
    category_id: int
    bbox: tuple[float, float, NonNegativeFloat, NonNegativeFloat]
    """Left, top, width and height in pixels, counted from 0; COCO's files contain a few boxes without area."""

    @property
    def edges(self) -> Box:
        """Left, top, right and bottom edges."""
        left, top, width, height = self.bbox
        return left, top, left + width, top + height


class Annotation(CocoBox):
    """An object. `ignore` or `difficult`, which some converters write, make it difficult; `iscrowd` makes it a crowd."""

    iscrowd: bool = False
    ignore: bool = False
    difficult: bool = False


class Result(CocoBox):
    """A detection."""

    score: float


class Annotations(CocoEntry):
    """An annotation file."""

    images: Annotated[list[Image], Field(min_length=1)]
    categories: list[Category]
    annotations: list[Annotation]


def read_coco(path: Path, images: Path | None) -> Truth:
    """Read the objects of an annotation file.

    An image's name is its file name without suffix, and without folders if it is unique. Images are sorted by id, which
    ranks detections of equal scores like COCO's evaluation.

    Raises:
        UserError: the file is not in COCO's format, or lacks images to score.
    """
    file = read_json(path, Annotations)
    file.images.sort(key=lambda image: (isinstance(image.id, str), image.id))
    keys = [PurePosixPath(composed(without_ending(image.file_name))) for image in file.images]
    name_of = ids_of(keys)
    names = {str(image.id): name_of[key] for image, key in zip(file.images, keys, strict=True)}
    categories = {category.id: category.name for category in file.categories}
    objects: dict[str, list[LabelledBox]] = {image: [] for image in names.values()}
    problems = [
        f"{path}: {what} {value!r} occurs twice; it has to be one's alone"
        for what, values in (
            ("images: the id", [str(image.id) for image in file.images]),
            ("images: the file_name without ending", [str(key) for key in keys]),
            ("categories: the id", [category.id for category in file.categories]),
            ("categories: the name", [category.name for category in file.categories]),
        )
        for value in duplicates(values)
    ]
    for number, entry in enumerate(file.annotations):
        image, name = names.get(str(entry.image_id)), categories.get(entry.category_id)
        if image is None or name is None:
            problems.append(f"{path}: annotations.{number}: its image_id or category_id is not defined in this file")
        else:
            difficult = entry.iscrowd or entry.ignore or entry.difficult
            objects[image].append(LabelledBox(name, entry.edges, difficult, entry.iscrowd))
    raise_problems(problems)
    wanted = set(selected(images, objects, path))
    return Truth({image: boxes for image, boxes in objects.items() if image in wanted}, names, categories)


def duplicates(values: Iterable[str | int]) -> list[str | int]:
    """Return the values that occur more than once."""
    return [value for value, count in Counter(values).items() if count > 1]


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


def read_json(path: Path, kind: type[Content]) -> Content:
    """Read and validate a JSON file.

    Raises:
        UserError: the file is missing, is not JSON, or has entries that are not in COCO's format; the message lists them.
    """
    if why := why_unreadable(path):
        raise UserError(f"{path}: {why}")
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except ValidationError as error:
        places = [(".".join(map(str, problem["loc"])), problem["msg"]) for problem in error.errors(include_url=False)]
        raise_problems([f"{path}: {place or '(whole file)'}: {message}" for place, message in places])
        raise


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
    """Return one image's boxes in COCO's format, with the value of `key` under `name`."""
    columns = (boxes[column].tolist() for column in ("boxes", "labels", key))
    return [
        {
            "image_id": image,
            "category_id": label + 1,
            "bbox": [left, top, right - left, bottom - top],
            name or key: value,
        }
        for (left, top, right, bottom), label, value in zip(*columns, strict=True)
    ]


def write_boxes(path: Path, found: Mapping[str, Tensor]) -> Path:
    """Write an image's detections as a results file and return it; `path` has no suffix, and its name is the image id."""
    path = path.with_name(path.name + ".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(entries(path.name.removesuffix(".json"), found, "scores", "score")) + "\n")
    return path
