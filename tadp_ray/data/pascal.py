"""Pascal VOC: segmentation 2012 with the extended training masks, and detection 2007 and 2012."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from tadp_ray.data.files import Fields, Layout, PublishedSet, SampleFacts, nothing, require
from tadp_ray.data.images import label_table, read_mask
from tadp_ray.data.names import read_list
from tadp_ray.data.sample import IGNORE, Split
from tadp_ray.errors import UserError
from tadp_ray.files import check_readable
from tadp_ray.wording import names_listed

ANNOTATED = names_listed("""
    aeroplane, bicycle, bird, boat, bottle, bus, car, cat, chair, cow, diningtable, dog, horse, motorbike, person,
    pottedplant, sheep, sofa, train, tvmonitor
""")
"""Class names of annotation files, in the order of label maps."""
REWORDED = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "tvmonitor": "television",
}
THINGS = tuple(REWORDED.get(name, name) for name in ANNOTATED)
"""Class names in the published prompts."""
CLASSES = ("background", *THINGS)
TABLE = label_table({label: label for label in range(len(CLASSES))} | {255: IGNORE})


def segmentation(root: Path, split: Split) -> Layout:
    """Return the pairs in the split's list."""
    year = "VOC2012"
    names = f"{year}/ImageSets/Segmentation/{'trainaug' if split == 'train' else 'val'}.txt"
    require("pascal_segmentation", root, names, f"{year}/JPEGImages", f"{year}/SegmentationClassAug")
    ids = read_list(root / names)
    return Layout(
        CLASSES,
        images={image_id: root / f"{year}/JPEGImages/{image_id}.jpg" for image_id in ids},
        truths={image_id: root / f"{year}/SegmentationClassAug/{image_id}.png" for image_id in ids},
        read=partial(read_mask, table=TABLE, otherwise="is none of VOC's: 0 to 20 are classes, 255 is void"),
        rules=("pascal_segmentation",),
        judge=without_void if split == "val" else nothing,
    )


def without_void(found: Mapping[str, SampleFacts]) -> list[str]:
    """Return one line if no label map holds void, which VOC's have along contours and SBD's do not: its scores would differ."""
    if any(each.left_out for each in found.values()):
        return []
    return [
        f"SegmentationClassAug: none of the {len(found)} label maps of val holds void (255), so they are SBD's and not VOC's; "
        "put those of VOC 2012 there in the same format, as in the folder that DeepLab's authors published"
    ]


def detection(root: Path, split: Split) -> Layout:
    """Return the files: train is 2007 trainval and 2012 trainval, val is 2007 test."""
    lists = {"VOC2007": "trainval", "VOC2012": "trainval"} if split == "train" else {"VOC2007": "test"}
    return boxes_layout("pascal_detection", root, lists)


def boxes_layout(kind: str, root: Path, lists: Mapping[str, str]) -> Layout:
    """Return photographs with boxes in VOC's folders.

    Args:
        kind: name of the data set.
        root: folder that holds them.
        lists: folder below the root -> the list in its ImageSets/Main that names the images.
    """
    folders = {Path(folder): Path(folder, "ImageSets/Main", f"{name}.txt") for folder, name in lists.items()}
    parts = [
        part for folder, names in folders.items() for part in (names, folder / "JPEGImages", folder / "Annotations")
    ]
    require(kind, root, *map(str, parts))
    places = {image_id: root / folder for folder, names in folders.items() for image_id in read_list(root / names)}
    return Layout(
        THINGS,
        images={image_id: folder / f"JPEGImages/{image_id}.jpg" for image_id, folder in places.items()},
        truths={image_id: folder / f"Annotations/{image_id}.xml" for image_id, folder in places.items()},
        read=read_boxes,
        rules=(kind,),
    )


def read_annotation(path: Path) -> ElementTree.Element:
    """Return the outermost element of an annotation file.

    Raises:
        UserError: the file is no XML, or no annotation.
    """
    check_readable(path)
    try:
        # Expat refuses exploding entities, and ElementTree fetches none from elsewhere.
        root = ElementTree.parse(path).getroot()  # noqa: S314
    except Exception as error:
        # Beside ParseError there are LookupError and ValueError of encodings; nothing but the file is read here.
        raise UserError(f"{path}: cannot be read as XML ({error}); replace the file, or save it in UTF-8") from None
    if root.tag != "annotation":
        raise UserError(
            f"{path}: begins with <{root.tag}>, and an annotation of VOC's with <annotation>; write it like those"
        )
    return root


def read_objects(path: Path) -> Iterator[tuple[int, str, list[float], bool]]:
    """Yield the objects of an annotation file, without parts of objects.

    Of each its number from 1, its name, its first and last pixels counted from 1 (xmin, ymin, xmax, ymax), and whether it is
    difficult, so that scores pass it over.

    Raises:
        UserError: the file is no annotation, or an object has no box, or a mark of difficulty that is neither 0 nor 1.
    """
    for number, thing in enumerate(read_annotation(path).findall("object"), 1):
        name = thing.findtext("name", "").strip()
        place = f"{path}: object {number} ({name})"
        try:
            corners = [corner(thing.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax")]
        except ValueError:
            raise UserError(f"{place} has no <bndbox> of four numbers xmin, ymin, xmax, ymax; correct it") from None
        yield number, name, corners, is_difficult(thing, place)


def read_boxes(path: Path) -> Fields:
    """Read the objects of one of VOC's annotations, which all hold some; see `read_named_boxes`.

    Raises:
        UserError: the file cannot be read, holds no object, or an object is not as VOC's are.
    """
    fields = read_named_boxes(path, ANNOTATED, "VOC's names are")
    if not len(fields["boxes"]):
        raise UserError(f"{path}: empty annotation, there is no <object> in it; annotate it or take it off the list")
    return fields


def read_named_boxes(path: Path, names: Sequence[str], known: str) -> Fields:
    """Read the objects of a VOC annotation as `boxes`, `box_classes` and `difficult`, without parts of objects.

    In the file, pixels are counted from 1 and the last one belongs to the box; a sample counts from 0, and its boxes end
    where the last pixel ends: (xmin - 1, ymin - 1, xmax, ymax).

    Args:
        path: the file.
        names: of the classes, in index order.
        known: begins the sentence about them where an object has another name.

    Raises:
        UserError: the file cannot be read, or an object has no box or another name.
    """
    boxes, classes, difficult = [], [], []
    for number, name, corners, passed_over in read_objects(path):
        if name not in names:
            raise UserError(f"{path}: object {number} is called {name!r}; {known} {', '.join(names)}")
        boxes.append(corners)
        classes.append(names.index(name))
        difficult.append(passed_over)
    return {
        "boxes": np.array(boxes, np.float32).reshape(-1, 4) - np.array([1, 1, 0, 0], np.float32),
        "box_classes": np.array(classes, np.int64),
        "difficult": np.array(difficult, bool),
    }


def read_own_boxes(path: Path, names: Sequence[str], known: str) -> Fields:
    """Read an annotation like `read_named_boxes`, with the image's `size` (height, width) if the file tells it.

    Published annotations have sizes of other images here and there, which are passed over.
    """
    fields = read_named_boxes(path, names, known)
    sides = [read_annotation(path).findtext(f"size/{side}", "").strip() for side in ("height", "width")]
    # Some programs write 0 or nothing for unknown, others fractions.
    told = [int(found[1]) for side in sides if (found := re.fullmatch(r"(\d+)(\.0*)?", side)) and int(found[1])]
    return {**fields, **({"size": np.array(told)} if len(told) == 2 else {})}


def is_difficult(thing: ElementTree.Element, place: str) -> bool:
    """Return whether an object is marked as difficult, so that scores pass it over.

    Raises:
        UserError: the mark is neither 0 nor 1; begins with `place`.
    """
    mark = thing.findtext("difficult", "").strip().lower()
    if mark not in ("", "0", "0.0", "false", "1", "1.0", "true"):
        raise UserError(f"{place} has <difficult> {mark!r}; write 0 or 1")
    return mark in ("1", "1.0", "true")


def corner(text: str) -> float:
    """Parse a coordinate; raise ValueError if it is not a number, or impossible in an image."""
    value = float(text)
    if not abs(value) < 1e6:
        raise ValueError(f"{text} is no coordinate")
    return value


HOME = "http://host.robots.ox.ac.uk/pascal/VOC/"
TERMS = "photographs under flickr's terms, for research"
PASCAL_SEGMENTATION = PublishedSet(
    title="Pascal VOC 2012 segmentation, training masks extended by SBD",
    task="segmentation",
    classes=CLASSES,
    home=(HOME, "http://home.bharathh.info/pubs/codes/SBD/download.html"),
    terms=TERMS,
    tree="""\
VOC2012/JPEGImages/2007_000032.jpg              photographs of VOC 2012
VOC2012/SegmentationClassAug/2007_000032.png    label maps of VOC 2012 and SBD in one format, as used since DeepLab:
                                                0 background, 1 to 20 classes, 255 void
VOC2012/ImageSets/Segmentation/trainaug.txt     10,582 ids, one a line
VOC2012/ImageSets/Segmentation/val.txt          1,449 ids""",
    images={"train": 10582, "val": 1449},
    layout=segmentation,
)
PASCAL_DETECTION = PublishedSet(
    title="Pascal VOC detection: trained on 2007 and 2012 trainval, scored on 2007 test",
    task="detection",
    classes=THINGS,
    home=(HOME,),
    terms=TERMS,
    tree="""\
VOC2007/JPEGImages/000005.jpg              photographs of VOC 2007, trainval and test in one folder
VOC2007/Annotations/000005.xml             their boxes
VOC2007/ImageSets/Main/trainval.txt        5,011 ids
VOC2007/ImageSets/Main/test.txt            4,952 ids
VOC2012/JPEGImages/2008_000002.jpg         the same of VOC 2012
VOC2012/Annotations/2008_000002.xml
VOC2012/ImageSets/Main/trainval.txt        11,540 ids""",
    images={"train": 16551, "val": 4952},
    layout=detection,
)
