"""The command that compares two rows of a table image by image."""

from pathlib import Path
from typing import Annotated

import typer

from tadp_ray.cli.common import DeviceOption, RecipeOption, ScaleOption, TrackingOption, names_of, say
from tadp_ray.cli.picture import CountOption, OutArgument
from tadp_ray.cli.results import named_experiment
from tadp_ray.cli.retype import typed
from tadp_ray.config.shipped import file_of
from tadp_ray.layout import STORAGE
from tadp_ray.wording import shown


def gains(
    file: Annotated[
        Path,
        typer.Argument(
            help="Experiment: a file, a shipped name (see `ls`), or the name of a sweep (see `list`), e.g. prec_recall.",
            autocompletion=names_of("experiments"),
        ),
    ],
    out: OutArgument,
    row: Annotated[str, typer.Option(help="Row of the table, by its heading or as key=value.")],
    against: Annotated[str, typer.Option(help="Row of the table to compare --row with.")],
    column: Annotated[
        str | None,
        typer.Option(help="Column of the table, by its heading or as key=value.", show_default="the only column"),
    ] = None,
    scale: ScaleOption = "pocket",
    recipe: RecipeOption = None,
    count: CountOption = 4,
    tracking_uri: TrackingOption = None,
    storage: Annotated[Path, typer.Option(help="Storage folder, with the cached latents and contexts.")] = Path(
        STORAGE
    ),
    device: DeviceOption = None,
) -> None:
    """Compare two rows of a table image by image.

    The pictures show the images with the largest gains and losses, with the captions of both rows. The command reads the scores
    of all images from MLflow. It recomputes predictions only for the images that it shows, with the weights of both cells. It
    logs the pictures to MLflow, so that `report` includes them.
    """
    from tadp_ray.api.gains import compared_runs, write_gains
    from tadp_ray.reporting.results import fill_table, latest_sweep
    from tadp_ray.tracking.findings import finding_name, log_finding

    kept_as = finding_name(out)
    recipe = recipe and file_of(recipe, "recipes")
    store, experiment, scale = named_experiment(file, scale, tracking_uri)
    spec, sweep = latest_sweep(store, experiment, recipe, scale)
    table, done = fill_table(store, spec, sweep.cells)
    pair = compared_runs(store, table, done, row, against, column)
    facts, files = write_gains(store, pair, out, count, storage, device)
    for name, value in facts["numbers"].items():
        say(f"{name}: {shown(value)}")
    names = [path.name for path in files]
    run = log_finding(store, out, {"name": kept_as, "command": typed(), **facts}, names)
    say(f"written to {out}: {', '.join(names)}; logged as {kept_as}: run {run}")
