"""Systems side by side, where they differ most."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tadp_ray.cli.common import Commands, KeepOption, exit_on_user_error, parse_classes, say
from tadp_ray.cli.score import ClassesOption, EigenCropOption, FarthestOption, IgnoreOption, TargetsOption, UnitsOption
from tadp_ray.errors import UserError

if TYPE_CHECKING:
    from tadp_ray.pictures.contest import Contest

app = Commands(
    help="Draw systems side by side where they differ most: image, truth and each one's predictions, as PNG and PDF, by one "
    "stated rule for better and for worse. Files are those that `score` reads; `predict` writes them for a trained cell.",
    no_args_is_help=True,
)
OutArgument = Annotated[
    Path, typer.Argument(help="Folder to write better.{png,pdf}, worse.{png,pdf} and choice.json to.")
]
SystemsOption = Annotated[
    list[str], typer.Option("--system", help="NAME=PREDICTIONS; two or more, the first is held against the others.")
]
ImagesOption = Annotated[Path, typer.Option(help="Folder of images; a file is named as its target.")]
CountOption = Annotated[int, typer.Option(min=1, help="Images of a picture.")]


@app.command("segmentation")
def picture_segmentation(
    out: OutArgument,
    systems: SystemsOption,
    images: ImagesOption,
    targets: TargetsOption,
    classes: ClassesOption,
    ignore: IgnoreOption = None,
    reduce_zero_label: Annotated[
        bool, typer.Option("--reduce-zero-label", help="In all folders label k is class k-1, 0 none (ADE20K).")
    ] = False,
    count: CountOption = 4,
    tracking_uri: KeepOption = None,
) -> None:
    """Label maps, with the names of their regions; frames show where correct pixels differ most."""
    with exit_on_user_error():
        from tadp_ray.pictures.contest import segmentation_contest as run

        folders, names = parse_systems(systems), parse_classes(classes)
        draw(run(folders, targets, images, names, ignore or [255], reduce_zero_label), out, count, tracking_uri)


@app.command("depth")
def picture_depth(
    out: OutArgument,
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
    count: CountOption = 4,
    tracking_uri: KeepOption = None,
) -> None:
    """Depth maps with their scale in metres; frames show where squared errors differ most."""
    with exit_on_user_error():
        from tadp_ray.pictures.contest import depth_contest as run

        folders = parse_systems(systems)
        scales = prediction_scale * len(folders) if len(prediction_scale) == 1 else prediction_scale
        if len(scales) != len(folders):
            raise UserError(
                f"--prediction-scale: {len(scales)} are given for {len(folders)} systems; give one, or one for each"
            )
        draw(run(folders, targets, images, scales, target_scale, max_depth, eigen_crop), out, count, tracking_uri)


@app.command("detection")
def picture_detection(
    out: OutArgument,
    systems: Annotated[
        list[str],
        typer.Option(
            "--system", help="NAME=folder of VOC's comp4_det_test_<class>.txt, or COCO results file; two or more."
        ),
    ],
    images: ImagesOption,
    targets: Annotated[Path, typer.Option(help="Folder of VOC annotations (XML), or a COCO annotation file (JSON).")],
    classes: Annotated[str, typer.Option(help="Names, as targets spell them: a,b,c or a text file with one a line.")],
    listed: Annotated[
        Path | None, typer.Option("--list", help="List of images, e.g. ImageSets/Main/test.txt.", show_default="all")
    ] = None,
    count: CountOption = 4,
    tracking_uri: KeepOption = None,
) -> None:
    """Boxes with classes and scores of at least one half."""
    with exit_on_user_error():
        from tadp_ray.pictures.contest import detection_contest as run

        draw(run(parse_systems(systems), targets, images, parse_classes(classes), listed), out, count, tracking_uri)


def parse_systems(texts: list[str]) -> dict[str, Path]:
    """`NAME=FOLDER` texts by name.

    Raises:
        UserError: one has no name, or there are fewer than two names.
    """
    pairs = [text.partition("=") for text in texts]
    named = {name.strip(): Path(folder) for name, _, folder in pairs if name.strip() and folder}
    if len(named) < len(texts) or len(named) < 2:
        raise UserError(f"--system {' '.join(texts)}: expected two or more NAME=PREDICTIONS of distinct names")
    return named


def draw(contest: "Contest", out: Path, count: int, tracking_uri: str | None) -> None:
    """Write the pictures, say what they show and why, and keep them where they are to be kept."""
    from tadp_ray.pictures.choose import rule
    from tadp_ray.pictures.panels import write_contest

    chosen, files = write_contest(contest, out, count)
    for direction, rows in chosen.items():
        say(f"{direction}: {rule(contest.task, direction)}")
        for own in rows:
            pairs = zip(contest.systems, contest.scores[:, own.number], strict=True)
            scores = ", ".join(f"{name} {value:.2f}" for name, value in pairs)
            say(f"  {contest.ids[own.number]}: {scores}")
        if not rows:
            say(f"  no image in which {contest.systems[0]} is {direction}")
    say(f"written to {out}: {', '.join(path.name for path in files)}")
    if tracking_uri:
        run = keep(contest, out, tracking_uri, [path.name for path in files])
        say(f"kept as {out.name}: run {run}")


def keep(contest: "Contest", out: Path, tracking_uri: str, files: list[str]) -> str:
    """Keep the pictures in a store, under the name of their folder."""
    import shlex
    import sys

    import numpy as np

    from tadp_ray.addresses import masked
    from tadp_ray.pictures.choose import SCORES, rule
    from tadp_ray.tracking.findings import keep_finding
    from tadp_ray.tracking.store import open_store

    facts = {
        "name": out.name,
        "question": f"Where do {' and '.join(contest.systems)} differ most?",
        "figure_of_paper": "Figures S7 and S11 to S20",
        "command": shlex.join(["tadp-ray", *map(masked, sys.argv[1:])]),
        "settings": rule(contest.task, "better"),
        "numbers": {
            f"{system}: {SCORES[contest.task]}, mean over {len(contest.ids)} images": mean
            for system, mean in zip(contest.systems, np.nanmean(contest.scores, 1).tolist(), strict=True)
        },
    }
    return keep_finding(open_store(tracking_uri), out, facts, files)
