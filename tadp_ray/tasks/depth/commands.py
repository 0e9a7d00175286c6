"""The commands `tadp-ray score` and `tadp-ray picture` for depth maps; see `tasks.options`."""

from typing import TYPE_CHECKING, Annotated

import typer

from tadp_ray.errors import UserError
from tadp_ray.tasks.options import ImagesOption, PredictionsOption, SystemsOption, TargetsOption

if TYPE_CHECKING:
    from tadp_ray.pictures.comparison import Comparison

UnitsOption = Annotated[float, typer.Option(min=1e-6, help="Units per metre: 1000 in millimetres, 1 in metres.")]
FarthestOption = Annotated[float, typer.Option(min=0.01, help="Metres; what is farther away is not scored.")]
EigenCropOption = Annotated[
    bool, typer.Option("--eigen-crop", help="Score only what is usual on NYUv2's images of 480x640.")
]


def score(
    predictions: PredictionsOption,
    targets: TargetsOption,
    prediction_scale: UnitsOption,
    target_scale: UnitsOption,
    max_depth: FarthestOption = 10.0,
    eigen_crop: EigenCropOption = False,
) -> dict[str, float]:
    """Depth maps: delta1..3, abs_rel, sq_rel, rmse, rmse_log, log10 and silog, per image, then averaged over images.

    Depth maps are PNG of 16 bits, or .npy; 0 in a target is no reading.
    """
    from tadp_ray.tasks.depth.scoring import score_depth

    return score_depth(predictions, targets, prediction_scale, target_scale, max_depth, eigen_crop)


def picture(
    systems: SystemsOption,
    images: ImagesOption,
    targets: TargetsOption,
    prediction_scale: Annotated[
        list[float],
        typer.Option(min=1e-6, help="Units per metre, of all systems, or repeated for each in their order."),
    ],
    target_scale: UnitsOption,
    max_depth: FarthestOption = 10.0,
    eigen_crop: EigenCropOption = False,
) -> "Comparison":
    """Depth maps with their scale in metres; frames show where squared errors differ most."""
    from tadp_ray.tasks.depth.scoring import compare_depth

    scales = prediction_scale * len(systems) if len(prediction_scale) == 1 else prediction_scale
    if len(scales) != len(systems):
        raise UserError(
            f"--prediction-scale: {len(scales)} are given for {len(systems)} systems; give one, or one for each"
        )
    return compare_depth(systems, targets, images, scales, target_scale, max_depth, eigen_crop)
