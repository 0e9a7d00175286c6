"""Watercolor2k and Comic2k: paintings and comics with six of Pascal VOC's classes, to evaluate a detector of photographs."""

from functools import partial
from pathlib import Path

from tadp_ray.data.files import Layout, PublishedSet
from tadp_ray.data.pascal import THINGS, boxes_layout
from tadp_ray.data.sample import Split


def layout(root: Path, split: Split, *, kind: str) -> Layout:
    """Return the test images for any split; class indices are those of Pascal's detection."""
    return boxes_layout(kind, root, {".": "test"})


def _published(title: str, kind: str) -> PublishedSet:
    return PublishedSet(
        title=f"{title} test (Inoue et al., CVPR 2018): bicycle, bird, car, cat, dog, person",
        task="detection",
        classes=THINGS,
        home=("https://naoto0804.github.io/cross_domain_detection/",),
        terms="pictures from Behance that belong to their artists, for research",
        tree="""\
JPEGImages/43248445.jpg     pictures
Annotations/43248445.xml    their boxes, as in Pascal VOC
ImageSets/Main/test.txt     1,000 ids""",
        images={"val": 1000},
        layout=partial(layout, kind=kind),
    )


WATERCOLOR2K = _published("Watercolor2k", "watercolor2k")
COMIC2K = _published("Comic2k", "comic2k")
