"""COCO's annotation files, and COCO's own data set of 2017: boxes of 80 classes."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, TypeAdapter, ValidationError

from tadp_ray.config.vocabulary import repeated
from tadp_ray.data.files import Fields, Layout, PublishedSet, at_edges, require
from tadp_ray.data.sample import Split
from tadp_ray.errors import UserError, listed, raise_problems
from tadp_ray.files import check_readable, composed, without_ending
from tadp_ray.wording import first_few, names_listed

Content = TypeVar("Content")
CLASSES = names_listed("""
    person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign,
    parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella, handbag,
    tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, surfboard,
    tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot,
    hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv, laptop, mouse, remote,
    keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear,
    hair drier, toothbrush
""")
"""COCO's 80 categories, in the order of their ids."""


class CocoEntry(BaseModel):
    """The used keys of an entry; other keys are ignored."""

    model_config = ConfigDict(allow_inf_nan=False)


class Image(CocoEntry):
    """An image of an annotation file."""

    id: int | str
    file_name: str
    height: int | None = None
    width: int | None = None

    @property
    def key(self) -> PurePosixPath:
        """The file name without suffix."""
        return PurePosixPath(composed(without_ending(self.file_name)))


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
    def edges(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom edges."""
        left, top, width, height = self.bbox
        return left, top, left + width, top + height


class Annotation(CocoBox):
    """An object. `ignore` or `difficult`, which some converters write, make it difficult; `iscrowd` makes it a crowd."""

    iscrowd: bool = False
    ignore: bool = False
    difficult: bool = False

    @property
    def unscored(self) -> bool:
        """Whether scores pass it over."""
        return self.iscrowd or self.ignore or self.difficult


class Annotations(CocoEntry):
    """An annotation file."""

    images: Annotated[list[Image], Field(min_length=1)]
    categories: list[Category]
    annotations: list[Annotation]


def read_json(path: Path, kind: type[Content]) -> Content:
    """Read and validate a JSON file.

    Raises:
        UserError: the file is missing, is not JSON, or has entries that are not in COCO's format; the message lists them.
    """
    check_readable(path)
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except ValidationError as error:
        places = [(".".join(map(str, problem["loc"])), problem["msg"]) for problem in error.errors(include_url=False)]
        problems = [f"{path}: {place or '(whole file)'}: {message}" for place, message in places]
        raise UserError(listed(problems)) from None


def read_annotations(path: Path) -> Annotations:
    """Read an annotation file; its images are sorted by id.

    Raises:
        UserError: the file is not in COCO's format, uses an id or a name twice, or refers to an id that it does not define.
    """
    file = read_json(path, Annotations)
    file.images.sort(key=lambda image: (isinstance(image.id, str), image.id))
    images, categories = {str(image.id) for image in file.images}, {category.id for category in file.categories}
    problems = [
        f"{path}: {what} {value!r} occurs twice; it must be unique"
        for what, values in (
            ("images: the id", [str(image.id) for image in file.images]),
            ("images: the file_name without ending", [str(image.key) for image in file.images]),
            ("categories: the id", [category.id for category in file.categories]),
            ("categories: the name", [category.name for category in file.categories]),
        )
        for value in repeated(values)
    ]
    problems += [
        f"{path}: annotations.{number}: its image_id or category_id is not defined in this file"
        for number, entry in enumerate(file.annotations)
        if str(entry.image_id) not in images or entry.category_id not in categories
    ]
    raise_problems(problems)
    return file


@dataclass(frozen=True)
class Objects:
    """Reads samples of an annotation file, whose content it holds by sample id (`Layout.read` with `shared_truth`)."""

    by_id: Mapping[str, Fields]

    def __call__(self, _: Path, name: str) -> Fields:
        """Return the fields of a sample."""
        return dict(self.by_id[name])


def boxes_by_image(path: Path, file: Annotations, classes: Sequence[str]) -> dict[str, Fields]:
    """Return the boxes of each image of a file by the image's id, as text.

    A crowd is no object to learn from, so training leaves it out (`Layout.crowds`); for scoring it is difficult.

    Raises:
        UserError: there are boxes of other classes.
    """
    place, names = {name: index for index, name in enumerate(classes)}, {each.id: each.name for each in file.categories}
    if unknown := sorted({names[entry.category_id] for entry in file.annotations} - place.keys()):
        raise UserError(
            f"{path}: has boxes of {first_few(map(repr, unknown))}, but the classes are {', '.join(classes)}; add the name to "
            "data.classes, spelled like the category, or take its boxes out"
        )
    labels = {number: place[name] for number, name in names.items() if name in place}
    found: dict[str, list[Annotation]] = defaultdict(list)
    for entry in file.annotations:
        found[str(entry.image_id)].append(entry)
    return {str(image.id): _fields(image, found[str(image.id)], labels) for image in file.images}


def _fields(image: Image, entries: Sequence[Annotation], labels: Mapping[int, int]) -> Fields:
    """Return an image's boxes as fields of a sample, and its size (height, width) if the file tells it."""
    boxes = np.array([entry.edges for entry in entries], np.float32).reshape(-1, 4)
    size = {}
    if image.height is not None and image.width is not None:
        size = {"size": np.array([image.height, image.width])}
        boxes = at_edges(boxes, image.height, image.width)
    return {
        "boxes": boxes,
        "box_classes": np.array([labels[entry.category_id] for entry in entries], np.int64),
        "difficult": np.array([entry.unscored for entry in entries], bool),
        "crowd": np.array([entry.iscrowd for entry in entries], bool),
        **size,
    }


def detection(root: Path, split: Split) -> Layout:
    """Return the images and boxes of a split, without boxes that have no area.

    As in common implementations, training leaves out images without objects. Scoring keeps them.
    """
    names = f"annotations/instances_{split}2017.json"
    require("coco", root, names, f"{split}2017")
    file = read_annotations(root / names)
    found = boxes_by_image(root / names, file, CLASSES)
    fields = {image.key.name: _with_area(found[str(image.id)]) for image in file.images}
    images = {image.key.name: root / f"{split}2017" / image.file_name for image in file.images}
    if split == "train":
        images = {name: image for name, image in images.items() if not fields[name]["crowd"].all()}
    return Layout(
        CLASSES,
        images,
        truths=dict.fromkeys(images, root / names),
        read=Objects({name: fields[name] for name in images}),
        rules=("coco",),
        crowds=split != "train",
        shared_truth=True,
    )


def _with_area(fields: Fields) -> Fields:
    """Return fields without the boxes that have no area."""
    keep = np.all(fields["boxes"][:, 2:] > fields["boxes"][:, :2], axis=1)
    return {name: values if name == "size" else values[keep] for name, values in fields.items()}


COCO = PublishedSet(
    title="COCO 2017 detection",
    task="detection",
    classes=CLASSES,
    home=("https://cocodataset.org/",),
    terms="annotations under CC BY 4.0, photographs under flickr's terms",
    tree="""\
train2017/000000000009.jpg             photographs
val2017/000000000139.jpg
annotations/instances_train2017.json   boxes of 118,287 photographs; 117,266 of them have objects that are no crowd
annotations/instances_val2017.json     boxes of 5,000 photographs""",
    images={"train": 117266, "val": 5000},
    layout=detection,
)
