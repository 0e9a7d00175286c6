"""Commands on what was trained: predict, table, report, dashboard."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tadp_ray.cli.common import (
    DeviceOption,
    JSONOption,
    RecipeOption,
    ScaleOption,
    TrackingOption,
    console,
    names_of,
    say,
    show,
)
from tadp_ray.cli.retype import score_command
from tadp_ray.config.errors import suggestion
from tadp_ray.config.shipped import file_of, is_experiment, root, shipped, visible_files
from tadp_ray.config.vocabulary import Scale
from tadp_ray.errors import UserError
from tadp_ray.layout import STORAGE
from tadp_ray.wording import pluralized

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tadp_ray.config.cell import Cell
    from tadp_ray.config.resolve import ResolvedExperiment
    from tadp_ray.config.table import TableSpec
    from tadp_ray.reporting.claims import Tables
    from tadp_ray.reporting.table import Table
    from tadp_ray.tracking.store import Store


def predict(
    run: Annotated[str, typer.Argument(help="MLflow run id of a finished cell (see table.csv).")],
    folder: Annotated[
        Path,
        typer.Argument(help="Output folder. It must be new or empty, except with --image. No file is replaced."),
    ],
    image: Annotated[
        list[Path] | None,
        typer.Option(help="Image file of any size to predict. Repeatable.", show_default="the validation images"),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(help='Prompt for --image, e.g. "a cat and a dog"; "" is the empty prompt.'),
    ] = None,
    tracking_uri: TrackingOption = None,
    storage: Annotated[Path, typer.Option(help="Storage folder, with the cached latents and contexts.")] = Path(
        STORAGE
    ),
    device: DeviceOption = None,
) -> None:
    """Write the predictions of a trained cell as files.

    Without --image, predict the validation images. The folder then contains images, targets, predictions and classes.txt, which
    `score` and `picture` read. With --image and --prompt, write the prediction for each image at its own size, and a
    visualization. Label maps are 8-bit PNG files, depth maps are .npy files in metres, and boxes are .json files of COCO results.
    """
    if image and prompt is not None:
        predict_pictures(run, folder, image, prompt, tracking_uri, device)
        return
    if image or prompt is not None:
        raise UserError("--image and --prompt belong together: name a picture and its prompt")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: not empty, and its files could be taken for this cell's; name another folder")
    from tadp_ray.tracking.query import trained_cell
    from tadp_ray.tracking.store import open_store

    cell, weights = trained_cell(open_store(tracking_uri, make=False), run)

    from tadp_ray.tasks.build import task_of
    from tadp_ray.training.predict import predict_run

    count = predict_run(run, cell, weights, folder, storage, device=device)
    say(f"{folder}: predictions of {pluralized(count, 'images')}, with images, targets and classes.txt")
    if score_options := task_of(cell.recipe).score_options:
        say(f"to score them: {score_command(cell.recipe.task, score_options(folder))}")


def predict_pictures(
    run: str, folder: Path, images: list[Path], prompt: str, tracking_uri: str | None, device: str | None
) -> None:
    """Write a trained cell's predictions for pictures, all with one prompt."""
    from tadp_ray.api.images import read_image

    names = [image.stem for image in images]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(
            f"--image: two pictures are called {twice}, and so would be their predictions; name one at a time"
        )
    pixels = [read_image(image) for image in images]

    from tadp_ray.api.trained import check_unwritten, open_cell
    from tadp_ray.tracking.query import trained_cell
    from tadp_ray.tracking.store import open_store
    from tadp_ray.training.transfer import device_for

    cell, weights = trained_cell(open_store(tracking_uri, make=False), run)
    for name in names:
        check_unwritten(folder, name, cell.recipe)
    model = open_cell(cell, weights, run, device_for(cell, device))
    for name, picture in zip(names, pixels, strict=True):
        for file in model.predict(picture, prompt).write(folder, name):
            say(file)


def table(
    file: Annotated[
        Path,
        typer.Argument(
            help="Experiment: a file, a shipped name (see `ls`), or the name of a sweep (see `list`).",
            autocompletion=names_of("experiments"),
        ),
    ],
    scale: ScaleOption = "pocket",
    recipe: RecipeOption = None,
    against: Annotated[
        str | None,
        typer.Option(help="Baseline row, by its heading or as key=value, e.g. caption.precision=1.0."),
    ] = None,
    tracking_uri: TrackingOption = None,
    storage: Annotated[Path, typer.Option(help="Parent folder of the tables.")] = Path(STORAGE),
    as_json: JSONOption = False,
) -> None:
    """Write the table of an experiment's newest sweep.

    The command also writes its figures and tests its claims. All results are read from MLflow. With --against, each entry shows
    its difference to the baseline row, with a 95 % interval over the scored images.
    """
    from tadp_ray.config.resolve import experiment_name
    from tadp_ray.reporting.results import latest_sweep, table_lookup

    recipe = recipe and file_of(recipe, "recipes")
    store, experiment, scale = named_experiment(file, scale, tracking_uri)
    spec, newest = latest_sweep(store, experiment, recipe, scale)
    folder = storage / experiment_name(experiment.file, recipe) / scale
    others = table_lookup(store, experiment, recipe, scale)
    show_results(store, newest.run_id, spec, newest.cells, folder, others, against, as_json)


def report(
    folder: Annotated[Path, typer.Argument(help="Output folder for report.html, report.md and their pictures.")] = Path(
        STORAGE, "report"
    ),
    experiments: Annotated[
        Path | None,
        typer.Option(help="Folder with experiments.", show_default="experiments/, or the shipped ones"),
    ] = None,
    tracking_uri: TrackingOption = None,
) -> None:
    """Write a page with all tables, figures, claims and analyses.

    For missing results, the page shows the commands that produce them. report.html needs no other file. All results are read from
    MLflow; nothing is trained.
    """
    import time

    from tadp_ray.reporting.report import gather
    from tadp_ray.reporting.report_files import write_report
    from tadp_ray.tracking.store import open_store

    start = time.monotonic()
    store = open_store(tracking_uri, make=False)
    if experiments is None:
        here = Path("experiments")
        experiments = here if visible_files(here) else root() / here
    chapters = gather(store, experiments, folder)
    files = write_report(chapters, f"Results in {Path(store.safe_uri).name}", folder)
    for chapter, sections in chapters.items():
        say(chapter, style="bold")
        for section in sections:
            say(f"  {section.state:<18} {section.title}")
    seconds = time.monotonic() - start
    say(f"written in {seconds:.1f} s: {', '.join(map(str, files))}")


def dashboard(
    tracking_uri: TrackingOption = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 5000,
) -> None:
    """Serve the web pages of MLflow for the store.

    They show sweeps, cells, curves, parameters, tables and pictures.
    """
    from tadp_ray.tracking.dashboard import dashboard as serve_page
    from tadp_ray.tracking.store import open_store

    serve_page(open_store(tracking_uri), host, port, say)


def named_experiment(file: Path, scale: Scale, tracking_uri: str | None) -> "tuple[Store, ResolvedExperiment, Scale]":
    """Return the store, the experiment of a file or of a sweep's name, and the scale: the sweep's own, if it has only one.

    Raises:
        UserError: there is no such store, file or sweep.
    """
    from tadp_ray.config.resolve import load_experiment
    from tadp_ray.reporting.results import stored_experiment
    from tadp_ray.tracking.store import open_store

    if is_experiment(file):
        experiment = load_experiment(file_of(file, "experiments"))
        return open_store(tracking_uri, make=False), experiment, scale
    try:
        store = open_store(tracking_uri, make=False)
    except UserError as error:
        known = f"{file}: neither a file nor a shipped experiment, which tadp-ray ls lists"
        hint = " ".join(filter(None, (suggestion(str(file), [*shipped("experiments")]), f"As a sweep's name: {error}")))
        raise UserError(f"{known}; {hint}") from None
    return store, *stored_experiment(store, str(file), scale, [*shipped("experiments")])


def show_results(
    store: "Store",
    run: str,
    spec: "TableSpec",
    cells: "Sequence[Cell]",
    folder: Path,
    others: "Tables",
    against: str | None = None,
    as_json: bool = False,
    strict: bool = False,
) -> "Table":
    """Write a sweep's table, figures and claims, log them to its MLflow run, print table and claims, return the table.

    MLflow's page shows the plain table, without differences to a row.
    """
    from tadp_ray.reporting.render import table_record, terminal
    from tadp_ray.reporting.results import write_results
    from tadp_ray.reporting.sweep_page import note, numbers
    from tadp_ray.tracking.sweep_run import attach, describe
    from tadp_ray.tracking.view import links

    filled, verdicts, files = write_results(store, spec, cells, folder, others, against, strict)
    attach(store, run, files)
    if against is None:
        seeds = len({cell.seed for cell in cells})
        shown = {run_id for row in filled.entries for entry in row for run_id in entry.run_ids}
        describe(store, run, numbers(filled), note(filled, verdicts, links(store, run, seeds, shown)))
    if as_json:
        show(table_record(filled, verdicts, files), (), as_json)
        return filled
    written = f"written to {folder}: {', '.join(path.name for path in files)}"
    console.print(terminal(filled))
    for line in (filled.caption, *filled.notes, *(own.sentence for own in verdicts), written):
        say(line)
    return filled
