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
            help="An experiment: a file, or the name of a shipped one or of a sweep, e.g. prec_recall; see `ls` and `list`.",
            autocompletion=names_of("experiments"),
        ),
    ],
    out: OutArgument,
    row: Annotated[str, typer.Option(help="A row of the table, by heading or key=value.")],
    against: Annotated[str, typer.Option(help="The row to compare it with.")],
    column: Annotated[
        str | None, typer.Option(help="Column, by heading or key=value.", show_default="the only one")
    ] = None,
    scale: ScaleOption = "pocket",
    recipe: RecipeOption = None,
    count: CountOption = 4,
    tracking_uri: TrackingOption = None,
    storage: Annotated[Path, typer.Option(help="Folder with the shared latents and contexts.")] = Path(STORAGE),
    device: DeviceOption = None,
) -> None:
    """Compare two rows of a table: show the images with the largest gains and losses, with both captions.

    The scores of all images are read from MLflow; only the shown images are predicted again, with the cells' own weights. The
    pictures are logged to MLflow, where `report` finds them.
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
