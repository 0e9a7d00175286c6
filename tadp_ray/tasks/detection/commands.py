"""The commands `tadp-ray score` and `tadp-ray picture` for boxes; see `tasks.options`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tadp_ray.tasks.options import ImagesOption

if TYPE_CHECKING:
    from tadp_ray.pictures.comparison import Comparison

ObjectsOption = Annotated[Path, typer.Option(help="Folder of VOC annotations (XML), or a COCO annotation file (JSON).")]
SpelledOption = Annotated[
    list[str], typer.Option(help="Names, as targets spell them: a,b,c or a text file with one a line.")
]


def score(
    predictions: Annotated[
        Path, typer.Option(help="Folder of VOC's comp4_det_test_<class>.txt, or a COCO results file (JSON).")
    ],
    targets: ObjectsOption,
    classes: SpelledOption,
    images: Annotated[
        Path | None, typer.Option(help="List of images to score, e.g. ImageSets/Main/test.txt.", show_default="all")
    ] = None,
) -> dict[str, float]:
    """Boxes: average precision in percent, as Pascal VOC counts (ap, ap50, ap75; *_voc07 in 11 points) and as COCO does.

    ap is the mean over overlaps of 0.5, 0.55 .. 0.95. Objects marked difficult are neither missed nor wrongly found.
    In COCO's metrics, any number of detections may lie in an object marked iscrowd.

    VOC keeps the annotations of all splits in one folder: give the split's list by --images.
    """
    from tadp_ray.tasks.detection.scoring import score_detection

    return score_detection(predictions, targets, classes, images)


def picture(
    systems: Annotated[
        dict[str, Path],
        typer.Option(
            "--system", help="NAME=folder of VOC's comp4_det_test_<class>.txt, or COCO results file; one or more."
        ),
    ],
    images: ImagesOption,
    targets: ObjectsOption,
    classes: SpelledOption,
    listed: Annotated[
        Path | None, typer.Option("--list", help="List of images, e.g. ImageSets/Main/test.txt.", show_default="all")
    ] = None,
) -> "Comparison":
    """Boxes with classes and scores of at least one half."""
    from tadp_ray.tasks.detection.scoring import compare_detection

    return compare_detection(systems, targets, images, classes, listed)
