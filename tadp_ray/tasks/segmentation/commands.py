"""The commands `tadp-ray score` and `tadp-ray picture` for label maps; see `tasks.options`."""

from typing import TYPE_CHECKING, Annotated

import typer

from tadp_ray.tasks.options import ClassesOption, ImagesOption, PredictionsOption, SystemsOption, TargetsOption

if TYPE_CHECKING:
    from tadp_ray.pictures.comparison import Comparison

IgnoreOption = Annotated[
    list[int] | None, typer.Option(help="Target value that is not scored; may be repeated.", show_default="255")
]


def score(
    predictions: PredictionsOption,
    targets: TargetsOption,
    classes: ClassesOption,
    ignore: IgnoreOption = None,
    reduce_zero_label: Annotated[
        bool, typer.Option("--reduce-zero-label", help="In both folders label k is class k-1, 0 none (ADE20K).")
    ] = False,
) -> dict[str, float]:
    """Label maps: mean intersection over union, accuracy, and the IoU of each class, in percent over all images.

    Label maps are PNG of one channel, grey or palette, whose values are class numbers.
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
        bool, typer.Option("--reduce-zero-label", help="In all folders label k is class k-1, 0 none (ADE20K).")
    ] = False,
) -> "Comparison":
    """Label maps, with the names of their regions; frames show where correct pixels differ most."""
    from tadp_ray.tasks.segmentation.scoring import compare_segmentation

    return compare_segmentation(systems, targets, images, classes, ignore or [255], reduce_zero_label)
