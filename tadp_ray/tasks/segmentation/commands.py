"""The commands `tadp-ray score` and `tadp-ray picture` for label maps; see `tasks.options`."""

from typing import TYPE_CHECKING, Annotated

import typer

from tadp_ray.tasks.options import ClassesOption, ImagesOption, PredictionsOption, SystemsOption, TargetsOption

if TYPE_CHECKING:
    from tadp_ray.pictures.comparison import Comparison

IgnoreOption = Annotated[
    list[int] | None, typer.Option(help="Target value that is not scored. Can be repeated.", show_default="255")
]


def score(
    predictions: PredictionsOption,
    targets: TargetsOption,
    classes: ClassesOption,
    ignore: IgnoreOption = None,
    reduce_zero_label: Annotated[
        bool,
        typer.Option("--reduce-zero-label", help="In both folders, label k is class k-1, and 0 is no class (ADE20K)."),
    ] = False,
) -> dict[str, float]:
    """Score label maps: mean intersection over union (IoU), pixel accuracy and the IoU of each class, in percent.

    All images are pooled. Label maps are single-channel PNG files, grey or palette, whose values are class indices.
    """
    from tadp_ray.tasks.segmentation.scoring import score_segmentation

    return score_segmentation(predictions, targets, classes, ignore or [255], reduce_zero_label)


def picture(
    systems: SystemsOption,
    images: ImagesOption,
    targets: TargetsOption,
    classes: ClassesOption,
    ignore: IgnoreOption = None,
    reduce_zero_label: Annotated[
        bool,
        typer.Option("--reduce-zero-label", help="In all folders, label k is class k-1, and 0 is no class (ADE20K)."),
    ] = False,
) -> "Comparison":
    """Draw label maps with the names of their regions. Frames mark where correct pixels differ most."""
    from tadp_ray.tasks.segmentation.scoring import compare_segmentation

    return compare_segmentation(systems, targets, images, classes, ignore or [255], reduce_zero_label)
