"""Scores of predictions in files, whoever made them."""

from pathlib import Path
from typing import Annotated

import typer

from tadp_ray.cli.common import Commands, JSONOption, console, exit_on_user_error, parse_classes

app = Commands(
    help="Score predictions in files against targets in files, whoever made them. Every file is checked, and all that is "
    "wrong is told at once; nothing is scored in part.",
    no_args_is_help=True,
)
PredictionsOption = Annotated[Path, typer.Option(help="Folder of predictions; a file is named as its target.")]
TargetsOption = Annotated[Path, typer.Option(help="Folder of ground truth.")]
ClassesOption = Annotated[str, typer.Option(help="Names in label order: a,b,c or a text file with one a line.")]
IgnoreOption = Annotated[
    list[int] | None, typer.Option(help="Target value that is not scored; may be repeated.", show_default="255")
]
UnitsOption = Annotated[float, typer.Option(min=1e-6, help="Units per metre: 1000 in millimetres, 1 in metres.")]
FarthestOption = Annotated[float, typer.Option(min=0.01, help="Metres; what is farther away is not scored.")]
EigenCropOption = Annotated[
    bool, typer.Option("--eigen-crop", help="Score only what is usual on NYUv2's images of 480x640.")
]


@app.command("segmentation")
def score_segmentation(
    predictions: PredictionsOption,
    targets: TargetsOption,
    classes: ClassesOption,
    ignore: IgnoreOption = None,
    reduce_zero_label: Annotated[
        bool, typer.Option("--reduce-zero-label", help="In both folders label k is class k-1, 0 none (ADE20K).")
    ] = False,
    as_json: JSONOption = False,
) -> None:
    """Label maps: mean intersection over union, accuracy, and the IoU of each class, in percent over all images.

    Label maps are PNG of one channel, grey or palette, whose values are class numbers.
    """
    with exit_on_user_error():
        from tadp_ray.scoring import score_segmentation as run

        show_scores(run(predictions, targets, parse_classes(classes), ignore or [255], reduce_zero_label), as_json)


@app.command("depth")
def score_depth(
    predictions: PredictionsOption,
    targets: TargetsOption,
    prediction_scale: UnitsOption,
    target_scale: UnitsOption,
    max_depth: FarthestOption = 10.0,
    eigen_crop: EigenCropOption = False,
    as_json: JSONOption = False,
) -> None:
    """Depth maps: delta1..3, abs_rel, sq_rel, rmse, rmse_log, log10 and silog, per image, then averaged over images.

    Depth maps are PNG of 16 bits, or .npy; 0 in a target is no reading.
    """
    with exit_on_user_error():
        from tadp_ray.scoring import score_depth as run

        show_scores(run(predictions, targets, prediction_scale, target_scale, max_depth, eigen_crop), as_json)


@app.command("detection")
def score_detection(
    predictions: Annotated[
        Path, typer.Option(help="Folder of VOC's comp4_det_test_<class>.txt, or a COCO results file (JSON).")
    ],
    targets: Annotated[Path, typer.Option(help="Folder of VOC annotations (XML), or a COCO annotation file (JSON).")],
    classes: Annotated[str, typer.Option(help="Names, as targets spell them: a,b,c or a text file with one a line.")],
    images: Annotated[
        Path | None, typer.Option(help="List of images to score, e.g. ImageSets/Main/test.txt.", show_default="all")
    ] = None,
    as_json: JSONOption = False,
) -> None:
    """Boxes: average precision in percent, as Pascal VOC counts (ap, ap50, ap75; *_voc07 in 11 points) and as COCO does.

    ap is the mean over overlaps of 0.5, 0.55 .. 0.95. Objects marked difficult are neither missed nor wrongly found.
    In COCO's figures, any number of detections may lie in an object marked iscrowd.

    VOC keeps the annotations of all splits in one folder: give the split's list by --images.
    """
    with exit_on_user_error():
        from tadp_ray.scoring import score_detection as run

        show_scores(run(predictions, targets, parse_classes(classes), images), as_json)


def show_scores(scores: dict[str, float], as_json: bool) -> None:
    """Print figures as a table or as JSON."""
    import json

    from rich.table import Table

    if as_json:
        print(json.dumps(scores, indent=1))
        return
    table = Table("figure", "value", box=None)
    table.columns[1].justify = "right"
    for name, value in scores.items():
        table.add_row(name, f"{value:.4f}" if isinstance(value, float) else str(value))
    console.print(table)
