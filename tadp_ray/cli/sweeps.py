"""Experiments and recipes: train, lay out, look."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tadp_ray.cli.common import (
    AddressOption,
    ChangesOption,
    StrictOption,
    TrackingOption,
    console,
    exit_on_user_error,
    names_of,
    say,
)
from tadp_ray.config.shipped import file_of, root
from tadp_ray.config.vocabulary import Scale
from tadp_ray.errors import UserError
from tadp_ray.layout import STORAGE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tadp_ray.captions.alignment import Similarity
    from tadp_ray.config.cell import Cell
    from tadp_ray.config.table import TableSpec
    from tadp_ray.reporting.claims import Tables
    from tadp_ray.sweep.plan import Plan
    from tadp_ray.tracking.store import Store


ExperimentFile = Annotated[
    Path,
    typer.Argument(
        help="An experiment: a file, or the name of a shipped one, e.g. prec_recall; see `ls`.",
        autocompletion=names_of("experiments"),
    ),
]
ScaleOption = Annotated[Scale, typer.Option(help="pocket runs on a laptop; paper needs GPUs, weights and data.")]
RecipeOption = Annotated[
    Path | None,
    typer.Option(
        help="Another recipe than the experiment's own: a file or a shipped name.", autocompletion=names_of("recipes")
    ),
]


def sweep(
    file: ExperimentFile,
    scale: ScaleOption = "pocket",
    recipe: RecipeOption = None,
    changes: ChangesOption = None,
    seeds: Annotated[str | None, typer.Option(help="e.g. 0,1,2.", show_default="the experiment's")] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="A part of the grid, e.g. caption.recall=1.0; repeated for an axis: any of them."),
    ] = None,
    address: AddressOption = None,
    tracking_uri: TrackingOption = None,
    strict: StrictOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and its cost; train nothing.")] = False,
) -> None:
    """Answer an experiment: train the cells that are not finished, and print the table beside the published numbers.

    Can be stopped and repeated at any time: finished cells are never trained again, interrupted ones go on from their
    last checkpoint.
    """
    with exit_on_user_error():
        from tadp_ray.reporting.results import table_lookup
        from tadp_ray.sweep.plan import make_plan
        from tadp_ray.tracking.store import open_store

        file, recipe = file_of(file, "experiments"), recipe and file_of(recipe, "recipes")
        numbers = None if seeds is None else parse_seeds(seeds)
        plan = make_plan(file, scale, recipe=recipe, overrides=changes or (), seeds=numbers, only=only or ())
        plan.warn()
        store = open_store(tracking_uri)
        if dry_run:
            show_preview(plan, store, address, strict)
            return

        from tadp_ray.sweep.engine import run_plan
        from tadp_ray.tracking.query import held

        run, whole = run_plan(plan, store, address, console, strict=strict)
        others = table_lookup(store, plan.source, recipe, scale)
        show_answer(store, run, plan.table, plan.cells, plan.folder, others)
        if not whole:
            raise typer.Exit(1)
        held(store, plan.selected)


def train(
    recipe: Annotated[
        Path,
        typer.Argument(
            help="A recipe: a file, or the name of a shipped one, e.g. pocket_depth.",
            autocompletion=names_of("recipes"),
        ),
    ],
    changes: ChangesOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that chance decides.")] = 0,
    address: AddressOption = None,
    tracking_uri: TrackingOption = None,
    strict: StrictOption = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print settings, parameters, FLOPs and memory; needs neither data nor weights."),
    ] = False,
) -> None:
    """Train one recipe, and print what it scores; goes on where it was stopped, like a sweep."""
    with exit_on_user_error():
        recipe = file_of(recipe, "recipes")
        if dry_run:
            from tadp_ray.config.load import load_recipe
            from tadp_ray.sweep.preview import recipe_preview

            for line in recipe_preview(load_recipe(recipe, changes or ())):
                say(line)
            return

        from tadp_ray.sweep.engine import run_plan
        from tadp_ray.sweep.plan import plan_one
        from tadp_ray.tracking.query import held
        from tadp_ray.tracking.store import open_store
        from tadp_ray.training.journal import failure

        plan, store = plan_one(recipe, changes or (), seed), open_store(tracking_uri)
        plan.warn()
        _, whole = run_plan(plan, store, address, console, strict=strict)
        (cell,) = plan.cells
        if not whole:
            # A bug or a crash has been told with the place of its traceback.
            if (known := failure(cell.folder)) and known.traceback is None:
                raise UserError(f"the training failed: {known.error}")
            raise typer.Exit(1)
        found = held(store, [cell])
        for name, value in found[cell.fingerprint].metrics.items():
            if name not in ("loss", "learning_rate", "seconds_per_step"):
                say(f"{name:<32}{value:>14.6g}")
        say(f"run {found[cell.fingerprint].run_id}; pictures and weights in {cell.folder}")


def search(
    recipe: Annotated[
        Path,
        typer.Argument(
            help="The recipe whose settings are looked for: a file or a shipped name.",
            autocompletion=names_of("recipes"),
        ),
    ],
    file: Annotated[
        Path,
        typer.Argument(
            help="A search: a file, or the name of a shipped one, e.g. search_learning_rate.",
            autocompletion=names_of("searches"),
        ),
    ],
    out: Annotated[Path, typer.Option(help="Recipe file to write.")],
    changes: ChangesOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the candidates, and of their trainings.")] = 0,
    address: AddressOption = None,
    tracking_uri: TrackingOption = None,
) -> None:
    """Look for settings: many candidates are begun, the worse ones given up early, the best becomes a recipe."""
    with exit_on_user_error():
        from tadp_ray.sweep.engine import run_plan
        from tadp_ray.sweep.search import plan_search, write_best
        from tadp_ray.tracking.store import open_store

        recipe, file = file_of(recipe, "recipes"), file_of(file, "searches")
        plan, store = plan_search(recipe, file, changes or (), seed), open_store(tracking_uri)
        plan.warn()
        run_plan(plan, store, address, console)
        say(f"{out}: {write_best(plan, store, recipe, changes or (), out)}")


def predict(
    run: Annotated[str, typer.Argument(help="MLflow run of a finished cell, as table.csv names it.")],
    folder: Annotated[Path, typer.Argument(help="Where images, targets, predictions and classes.txt go.")],
    image: Annotated[
        Path | None,
        typer.Option(help="One picture of any size, instead of the validation images.", show_default="those"),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(help='What the model is told of --image, e.g. "a bird and a dog"; "" is the empty prompt.'),
    ] = None,
    tracking_uri: TrackingOption = None,
    storage: Annotated[Path, typer.Option(help="Folder of latents and contexts that trainings share.")] = Path(STORAGE),
) -> None:
    """Write what a trained cell predicts for its validation images as files that `score` and `picture` read.

    With --image and --prompt: what it predicts for one picture, in the picture's own pixels, and how that looks. Labels are
    8-bit PNG, depth is metres as .npy, boxes are COCO's results as .json.
    """
    with exit_on_user_error():
        if (image is None) != (prompt is None):
            raise UserError(
                "--image and --prompt belong together: name a picture, and say what the model is told of it"
            )
        if image is not None:
            predict_picture(run, folder, image, prompt, tracking_uri)
            return
        from tadp_ray.tracking.query import trained_cell
        from tadp_ray.tracking.store import open_store

        cell, weights = trained_cell(open_store(tracking_uri, make=False), run)

        import torch

        from tadp_ray.tasks.registry import task_of
        from tadp_ray.training.digests import check_trained, digests_of
        from tadp_ray.training.predict import predict_cell

        check_trained(run, cell, digests_of(cell.recipe))
        device = torch.device("cuda" if cell.recipe.compute.gpus else "cpu")
        cell = cell.at(storage)
        count = predict_cell(cell, weights, folder, device)
        say(f"{folder}: predictions of {count} images, with images, targets and classes.txt")
        if scored_by := task_of(cell.recipe).score_command:
            say(f"scored by: {shlex.join(scored_by(folder))}")


def predict_picture(run: str, folder: Path, image: Path, prompt: str, tracking_uri: str | None) -> None:
    """Write what a trained cell predicts for one picture."""
    from tadp_ray.api.images import read_image

    pixels = read_image(image)

    from tadp_ray.api.trained import load_trained

    found = load_trained(run, tracking_uri=tracking_uri).predict(pixels, prompt)
    for file in found.write(folder, image.stem):
        say(file)


def table(
    file: ExperimentFile,
    scale: ScaleOption = "pocket",
    recipe: RecipeOption = None,
    against: Annotated[
        str | None,
        typer.Option(help="Row to compare the others with, by heading or key=value, e.g. caption.precision=1.0."),
    ] = None,
    tracking_uri: TrackingOption = None,
    storage: Annotated[Path, typer.Option(help="Folder that tables are written under.")] = Path(STORAGE),
) -> None:
    """Lay the newest sweep of an experiment out again, from MLflow alone: its table, and its figure if it asks for one.

    With --against each place tells its difference to another row, with a 95 % interval over the scored images.
    """
    with exit_on_user_error():
        from tadp_ray.config.experiments import experiment_name, load_experiment
        from tadp_ray.reporting.results import latest_sweep, table_lookup
        from tadp_ray.tracking.store import open_store

        file, recipe = file_of(file, "experiments"), recipe and file_of(recipe, "recipes")
        store, asked = open_store(tracking_uri, make=False), load_experiment(file)
        spec, found = latest_sweep(store, asked, recipe, scale)
        folder = storage / experiment_name(file, recipe) / scale
        others = table_lookup(store, asked, recipe, scale)
        show_answer(store, found.run_id, spec, found.cells, folder, others, against)


def report(
    folder: Annotated[Path, typer.Argument(help="Where report.html, report.md and their pictures go.")] = Path(
        STORAGE, "report"
    ),
    experiments: Annotated[
        Path | None,
        typer.Option(
            help="Folder of experiments.", show_default="experiments, or the shipped ones where there is none"
        ),
    ] = None,
    tracking_uri: TrackingOption = None,
) -> None:
    """Gather all tables, figures, claims and analyses of a store into one page, what is missing with what fills it.

    report.html needs no other file. Everything comes from MLflow; nothing is trained.
    """
    with exit_on_user_error():
        import time

        from tadp_ray.reporting.report import gather
        from tadp_ray.reporting.report_files import write_report
        from tadp_ray.tracking.store import open_store

        began = time.monotonic()
        store = open_store(tracking_uri, make=False)
        if experiments is None:
            here = Path("experiments")
            experiments = here if here.is_dir() else root() / here
        chapters = gather(store, experiments, folder, encoder)
        files = write_report(chapters, f"What {Path(store.shown).name} holds", folder)
        for chapter, parts in chapters.items():
            say(chapter, style="bold")
            for part in parts:
                say(f"  {part.state:<18} {part.title}")
        seconds = time.monotonic() - began
        say(f"written in {seconds:.1f} s: {', '.join(map(str, files))}")


def dashboard(
    tracking_uri: TrackingOption = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
) -> None:
    """Open MLflow's page over the store: sweeps, cells, curves, parameters, tables and pictures."""
    with exit_on_user_error():
        from tadp_ray.tracking.dashboard import dashboard as serve_page
        from tadp_ray.tracking.store import open_store

        serve_page(open_store(tracking_uri), host, port, say)


def schema(
    folder: Annotated[Path, typer.Argument(help="Where to write.")] = Path("experiments/schemas"),
) -> None:
    """Write the JSON Schemas by which editors complete and check experiments, recipes and sweeps."""
    from tadp_ray.config.export import write_schemas

    for path in write_schemas(folder):
        say(path)


def parse_seeds(text: str) -> list[int]:
    """`0,1,2` as numbers.

    Raises:
        UserError: something else stands there.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
        raise UserError(f"--seeds {text}: expected distinct whole numbers apart by commas, e.g. 0,1,2")
    return [int(part) for part in parts]


def show_preview(plan: "Plan", store: "Store", address: str | None, strict: bool) -> None:
    """Print what a sweep would do and cost."""
    from tadp_ray.sweep.cluster import cluster
    from tadp_ray.sweep.preview import preview
    from tadp_ray.tracking.query import finished, rows

    done = finished(store, [cell.fingerprint for cell in plan.cells], strict=strict)
    plan.check(plan.missing(done))
    earlier = [row for row in rows(store, plan.name, plan.recipe.scale) if row.status == "FINISHED"]
    with cluster(address, plan.recipe.compute) as at_once:
        for line in preview(plan, done, earlier, at_once):
            say(line)


def encoder(weights: str) -> "Similarity":
    """What tells how near two texts are; torch is loaded only where a figure asks for it."""
    from tadp_ray.conditioning.tokenizer import text_similarity

    return text_similarity(weights)


def show_answer(
    store: "Store",
    run: str,
    spec: "TableSpec",
    cells: "Sequence[Cell]",
    folder: Path,
    others: "Tables",
    against: str | None = None,
) -> None:
    """Write a sweep's table, figures and claims, show them on its page in MLflow, and print the table and the claims."""
    from tadp_ray.reporting.render import terminal
    from tadp_ray.reporting.results import write_results
    from tadp_ray.tracking.sweep_run import attach

    filled, claims, files = write_results(store, spec, cells, folder, encoder, others, against)
    attach(store, run, files)
    written = f"written to {folder}: {', '.join(path.name for path in files)}"
    console.print(terminal(filled))
    for line in (filled.caption, *filled.notes, *(own.sentence for own in claims), written):
        say(line)
