"""The commands `tadp-ray score` and `tadp-ray picture` for boxes; see `tasks.options`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tadp_ray.tasks.options import ImagesOption

if TYPE_CHECKING:
    from tadp_ray.pictures.comparison import Comparison

ObjectsOption = Annotated[Path, typer.Option(help="Folder of VOC annotations (XML), or a COCO annotation file (JSON).")]
SpelledOption = Annotated[
    list[str], typer.Option(help="Class names as spelled in the targets: a,b,c, or a text file with one name per line.")
]


def score(
    predictions: Annotated[
        Path, typer.Option(help="Folder of VOC files comp4_det_test_<class>.txt, or a COCO results file (JSON).")
    ],
    targets: ObjectsOption,
    classes: SpelledOption,
    images: Annotated[
        Path | None,
        typer.Option(help="File that lists the images to score, e.g. ImageSets/Main/test.txt.", show_default="all"),
    ] = None,
) -> dict[str, float]:
    """Score boxes: average precision in percent, as defined by Pascal VOC (ap, ap50, ap75) and by COCO (coco_*).

    Metrics named *_voc07 use 11 points, as VOC 2007 does. ap is the mean over IoU thresholds of 0.5, 0.55, ..., 0.95. Missing
    an object marked difficult is not an error, and neither is detecting it. In the COCO metrics, any number of detections may
    match an object marked iscrowd.

    VOC keeps the annotations of all splits in one folder, so use --images to select the images of a split.
    """
    from tadp_ray.tasks.detection.scoring import score_detection

    return score_detection(predictions, targets, classes, images)


def picture(
    systems: Annotated[
        dict[str, Path],
        typer.Option(
            "--system",
            help="NAME=PATH, a name and a folder of VOC files comp4_det_test_<class>.txt or a COCO results file. Can be "
            "repeated: the first system is compared with the others. With a single system, examples are drawn.",
        ),
    ],
    images: ImagesOption,
    targets: ObjectsOption,
    classes: SpelledOption,
    listed: Annotated[
        Path | None,
        typer.Option("--list", help="File that lists the images, e.g. ImageSets/Main/test.txt.", show_default="all"),
    ] = None,
) -> "Comparison":
    """Draw boxes whose score is at least 0.5, with their classes and scores."""
    from tadp_ray.tasks.detection.scoring import compare_detection

    return compare_detection(systems, targets, images, classes, listed)
