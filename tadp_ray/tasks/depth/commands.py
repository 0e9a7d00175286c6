"""The commands `tadp-ray score` and `tadp-ray picture` for depth maps; see `tasks.options`."""

from typing import TYPE_CHECKING, Annotated

import typer

from tadp_ray.errors import UserError
from tadp_ray.tasks.options import ImagesOption, PredictionsOption, SystemsOption, TargetsOption

if TYPE_CHECKING:
    from tadp_ray.pictures.comparison import Comparison

UnitsOption = Annotated[float, typer.Option(min=1e-6, help="Units per metre: 1000 for millimetres, 1 for metres.")]
FarthestOption = Annotated[
    float, typer.Option(min=0.01, help="Maximum depth in metres. Pixels at this depth or farther are not scored.")
]
EigenCropOption = Annotated[
    bool, typer.Option("--eigen-crop", help="Score only the crop of Eigen et al., for NYUv2 images of 480x640 pixels.")
]


def score(
    predictions: PredictionsOption,
    targets: TargetsOption,
    prediction_scale: UnitsOption,
    target_scale: UnitsOption,
    max_depth: FarthestOption = 10.0,
    eigen_crop: EigenCropOption = False,
) -> dict[str, float]:
    """Score depth maps: delta1..3, abs_rel, sq_rel, rmse, rmse_log, log10 and silog of each image, averaged over images.

    Depth maps are 16-bit PNG or .npy files. A value of 0 in a target means that there is no reading.
    """
    from tadp_ray.tasks.depth.scoring import score_depth

    return score_depth(predictions, targets, prediction_scale, target_scale, max_depth, eigen_crop)


def picture(
    systems: SystemsOption,
    images: ImagesOption,
    targets: TargetsOption,
    prediction_scale: Annotated[
        list[float],
        typer.Option(
            min=1e-6, help="Units per metre for all systems. Or repeat the option, once for each --system in order."
        ),
    ],
    target_scale: UnitsOption,
    max_depth: FarthestOption = 10.0,
    eigen_crop: EigenCropOption = False,
) -> "Comparison":
    """Draw depth maps with a colour scale in metres. Frames mark where squared errors differ most."""
    from tadp_ray.tasks.depth.scoring import compare_depth

    scales = prediction_scale * len(systems) if len(prediction_scale) == 1 else prediction_scale
    if len(scales) != len(systems):
        raise UserError(
            f"--prediction-scale: {len(scales)} are given for {len(systems)} systems; give one, or one for each"
        )
    return compare_depth(systems, targets, images, scales, target_scale, max_depth, eigen_crop)
