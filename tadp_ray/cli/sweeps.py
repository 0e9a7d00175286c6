"""Commands on experiments and recipes: sweep, train, search, predict, table, report."""

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
        help="Recipe that replaces the experiment's own: a file or a shipped name.", autocompletion=names_of("recipes")
    ),
]


def sweep(
    file: ExperimentFile,
    scale: ScaleOption = "pocket",
    recipe: RecipeOption = None,
    changes: ChangesOption = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds, e.g. 0,1,2.", show_default="the experiment's")] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Train only some values of an axis, e.g. caption.recall=1.0; repeatable."),
    ] = None,
    address: AddressOption = None,
    tracking_uri: TrackingOption = None,
    strict: StrictOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and its cost; train nothing.")] = False,
) -> None:
    """Run an experiment: train the cells that are not finished, and print the table beside the published numbers.

    It can be interrupted and repeated at any time: finished cells are not trained again, interrupted ones resume from their
    last checkpoint.
    """
    with exit_on_user_error():
        from tadp_ray.sweep.plan import make_plan
        from tadp_ray.tracking.store import existing_store, open_store

        file, recipe = file_of(file, "experiments"), recipe and file_of(recipe, "recipes")
        numbers = None if seeds is None else parse_seeds(seeds)
        plan = make_plan(file, scale, recipe=recipe, overrides=changes or (), seeds=numbers, only=only or ())
        plan.warn()
        if dry_run:
            show_preview(plan, existing_store(tracking_uri), address, strict)
            return
        store = open_store(tracking_uri)

        from tadp_ray.reporting.results import table_lookup
        from tadp_ray.sweep.engine import run_plan
        from tadp_ray.tracking.query import require_finished

        run, complete = run_plan(plan, store, address, console, strict=strict)
        others = table_lookup(store, plan.source, recipe, scale)
        show_results(store, run, plan.table, plan.cells, plan.folder, others)
        if not complete:
            raise typer.Exit(1)
        require_finished(store, plan.selected)


def train(
    recipe: Annotated[
        Path,
        typer.Argument(
            help="A recipe: a file, or the name of a shipped one, e.g. pocket_depth.",
            autocompletion=names_of("recipes"),
        ),
    ],
    changes: ChangesOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    address: AddressOption = None,
    tracking_uri: TrackingOption = None,
    strict: StrictOption = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print settings, parameters, FLOPs and memory; needs neither data nor weights."),
    ] = False,
) -> None:
    """Train one recipe, and print its metrics. An interrupted training resumes, as in a sweep."""
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
        from tadp_ray.tracking.query import require_finished
        from tadp_ray.tracking.store import open_store
        from tadp_ray.training.journal import failure

        plan, store = plan_one(recipe, changes or (), seed), open_store(tracking_uri)
        plan.warn()
        _, complete = run_plan(plan, store, address, console, strict=strict)
        (cell,) = plan.cells
        if not complete:
            # A bug or a crash has been logged with the path of its traceback.
            if (recorded := failure(cell.folder)) and recorded.traceback is None:
                raise UserError(f"the training failed: {recorded.error}")
            raise typer.Exit(1)
        found = require_finished(store, [cell])
        for name, value in found[cell.fingerprint].metrics.items():
            if name not in ("loss", "learning_rate", "seconds_per_step"):
                say(f"{name:<32}{value:>14.6g}")
        say(f"run {found[cell.fingerprint].run_id}; pictures and weights in {cell.folder}")


def search(
    recipe: Annotated[
        Path,
        typer.Argument(
            help="The recipe to improve: a file or a shipped name.",
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
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the candidates and of their training.")] = 0,
    address: AddressOption = None,
    tracking_uri: TrackingOption = None,
) -> None:
    """Search hyperparameters: train many candidates, stop the worse ones early, write the best one as a recipe."""
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
    run: Annotated[str, typer.Argument(help="MLflow run id of a finished cell, see table.csv.")],
    folder: Annotated[Path, typer.Argument(help="Folder for images, targets, predictions and classes.txt.")],
    image: Annotated[
        Path | None,
        typer.Option(help="A picture of any size.", show_default="the validation images"),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(help='Prompt for --image, e.g. "a cat and a dog"; "" is the empty prompt.'),
    ] = None,
    tracking_uri: TrackingOption = None,
    storage: Annotated[Path, typer.Option(help="Folder with the shared latents and contexts.")] = Path(STORAGE),
) -> None:
    """Write a trained cell's predictions for its validation images, as files that `score` and `picture` read.

    With --image and --prompt, write the prediction for one picture at its own size, and a visualization. Labels are 8-bit
    PNG, depth is in metres as .npy, boxes are COCO results as .json.
    """
    with exit_on_user_error():
        if image is not None and prompt is not None:
            predict_picture(run, folder, image, prompt, tracking_uri)
            return
        if image is not None or prompt is not None:
            raise UserError("--image and --prompt belong together: name a picture and its prompt")
        from tadp_ray.tracking.query import trained_cell
        from tadp_ray.tracking.store import open_store

        cell, weights = trained_cell(open_store(tracking_uri, make=False), run)

        import torch

        from tadp_ray.data.datasets import Datasets
        from tadp_ray.tasks.registry import task_of
        from tadp_ray.training.digests import check_trained, digests_of
        from tadp_ray.training.predict import predict_cell
        from tadp_ray.training.setup import Cache

        cache = Cache(Datasets(storage.absolute()))
        check_trained(run, cell, digests_of(cell.recipe, cache.datasets))
        device = torch.device("cuda" if cell.recipe.compute.gpus else "cpu")
        cell = cell.at(storage)
        count = predict_cell(cell, weights, folder, device, cache)
        say(f"{folder}: predictions of {count} images, with images, targets and classes.txt")
        if score_command := task_of(cell.recipe).score_command:
            say(f"to score them: {shlex.join(score_command(folder))}")


def predict_picture(run: str, folder: Path, image: Path, prompt: str, tracking_uri: str | None) -> None:
    """Write a trained cell's prediction for one picture."""
    from tadp_ray.api.images import read_image

    pixels = read_image(image)

    from tadp_ray.api.trained import load_trained

    prediction = load_trained(run, tracking_uri=tracking_uri).predict(pixels, prompt)
    for file in prediction.write(folder, image.stem):
        say(file)


def table(
    file: ExperimentFile,
    scale: ScaleOption = "pocket",
    recipe: RecipeOption = None,
    against: Annotated[
        str | None,
        typer.Option(help="Baseline row, by heading or key=value, e.g. caption.precision=1.0."),
    ] = None,
    tracking_uri: TrackingOption = None,
    storage: Annotated[Path, typer.Option(help="Parent folder of the tables.")] = Path(STORAGE),
) -> None:
    """Write the table, the figures and the claims of an experiment's newest sweep, from MLflow alone.

    With --against, each entry shows its difference to the baseline row, with a 95 % interval over the scored images.
    """
    with exit_on_user_error():
        from tadp_ray.config.experiments import experiment_name, load_experiment
        from tadp_ray.reporting.results import latest_sweep, table_lookup
        from tadp_ray.tracking.store import open_store

        file, recipe = file_of(file, "experiments"), recipe and file_of(recipe, "recipes")
        store, experiment = open_store(tracking_uri, make=False), load_experiment(file)
        spec, newest = latest_sweep(store, experiment, recipe, scale)
        folder = storage / experiment_name(file, recipe) / scale
        others = table_lookup(store, experiment, recipe, scale)
        show_results(store, newest.run_id, spec, newest.cells, folder, others, against)


def report(
    folder: Annotated[Path, typer.Argument(help="Folder for report.html, report.md and their pictures.")] = Path(
        STORAGE, "report"
    ),
    experiments: Annotated[
        Path | None,
        typer.Option(help="Folder of experiments.", show_default="experiments/, else the shipped ones"),
    ] = None,
    tracking_uri: TrackingOption = None,
) -> None:
    """Gather all tables, figures, claims and analyses of a store on one page, with the commands for missing ones.

    report.html needs no other file. Everything is read from MLflow; nothing is trained.
    """
    with exit_on_user_error():
        import time

        from tadp_ray.reporting.report import gather
        from tadp_ray.reporting.report_files import write_report
        from tadp_ray.tracking.store import open_store

        start = time.monotonic()
        store = open_store(tracking_uri, make=False)
        if experiments is None:
            here = Path("experiments")
            experiments = here if here.is_dir() else root() / here
        chapters = gather(store, experiments, folder, text_similarity)
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
    """Serve MLflow's web page for the store: sweeps, cells, curves, parameters, tables and pictures."""
    with exit_on_user_error():
        from tadp_ray.tracking.dashboard import dashboard as serve_page
        from tadp_ray.tracking.store import open_store

        serve_page(open_store(tracking_uri), host, port, say)


def schema(
    folder: Annotated[Path, typer.Argument(help="Folder to write to.")] = Path("experiments/schemas"),
) -> None:
    """Write JSON Schemas, with which editors complete and check experiments, recipes and sweeps."""
    from tadp_ray.config.export import write_schemas

    for path in write_schemas(folder):
        say(path)


def parse_seeds(text: str) -> list[int]:
    """Parse seeds such as `0,1,2`.

    Raises:
        UserError: the text is not a list of distinct numbers.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
        raise UserError(f"--seeds {text}: expected distinct integers separated by commas, e.g. 0,1,2")
    return [int(part) for part in parts]


def show_preview(plan: "Plan", store: "Store | None", address: str | None, strict: bool) -> None:
    """Print the plan of a sweep and its cost; without a store no cell is finished."""
    from tadp_ray.sweep.cluster import cluster
    from tadp_ray.sweep.preview import preview
    from tadp_ray.tracking.query import PAGE, finished, rows

    done = finished(store, [cell.fingerprint for cell in plan.cells], strict=strict) if store else {}
    plan.check(plan.missing(done))
    earlier = rows(store, plan.name, plan.recipe.scale, status="FINISHED", newest=PAGE) if store else []
    with cluster(address, plan.recipe.compute) as at_once:
        for line in preview(plan, done, earlier, at_once):
            say(line)


def text_similarity(weights: str) -> "Similarity":
    """Return the similarity of texts; torch is imported only for figures that need it."""
    from tadp_ray.conditioning.tokenizer import text_similarity as make_similarity

    return make_similarity(weights)


def show_results(
    store: "Store",
    run: str,
    spec: "TableSpec",
    cells: "Sequence[Cell]",
    folder: Path,
    others: "Tables",
    against: str | None = None,
) -> None:
    """Write a sweep's table, figures and claims, log them to its MLflow run, and print the table and the claims."""
    from tadp_ray.reporting.render import terminal
    from tadp_ray.reporting.results import write_results
    from tadp_ray.tracking.sweep_run import attach

    filled, verdicts, files = write_results(store, spec, cells, folder, text_similarity, others, against)
    attach(store, run, files)
    written = f"written to {folder}: {', '.join(path.name for path in files)}"
    console.print(terminal(filled))
    for line in (filled.caption, *filled.notes, *(own.sentence for own in verdicts), written):
        say(line)
