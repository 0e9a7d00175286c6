"""Commands on experiments and recipes: sweep, train, search, predict, table, report."""

import shlex
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tadp_ray.cli.common import (
    AddressOption,
    ChangesOption,
    JSONOption,
    StrictOption,
    TrackingOption,
    console,
    exit_on_user_error,
    names_of,
    say,
    show,
)
from tadp_ray.cli.dry_run import MeasuredOption, PriceOption, check_dry, plan_preview
from tadp_ray.cli.phases_shown import show_phases
from tadp_ray.cli.retype import program, retyped
from tadp_ray.config.shipped import file_of, root, shipped
from tadp_ray.config.vocabulary import Scale
from tadp_ray.errors import UserError
from tadp_ray.layout import STORAGE
from tadp_ray.phases import phase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tadp_ray.captions.alignment import Similarity
    from tadp_ray.config.cell import Cell
    from tadp_ray.config.table import TableSpec
    from tadp_ray.reporting.claims import Tables
    from tadp_ray.reporting.table import Table
    from tadp_ray.sweep.plan import Plan
    from tadp_ray.tracking.store import Store


ScaleOption = Annotated[Scale, typer.Option(help="pocket runs on a laptop; paper needs GPUs, weights and data.")]
RecipeOption = Annotated[
    Path | None,
    typer.Option(
        help="Recipe that replaces the experiment's own: a file or a shipped name.", autocompletion=names_of("recipes")
    ),
]


def sweep(
    context: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(
            help="An experiment: a file, or the name of a shipped one, e.g. prec_recall; see `ls`.",
            show_default="none; then --recipe and --axis ask",
            autocompletion=names_of("experiments"),
        ),
    ] = None,
    scale: ScaleOption = "pocket",
    recipe: RecipeOption = None,
    axis: Annotated[
        list[str] | None,
        typer.Option(help="A further axis: a recipe key and its values, e.g. model.timestep=1,50,200; repeatable."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of a sweep with --axis.", show_default="made from its recipe and axes")
    ] = None,
    changes: ChangesOption = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds, e.g. 0,1,2.", show_default="the experiment's")] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Train only some values of an axis, e.g. caption.recall=1.0; repeatable."),
    ] = None,
    address: AddressOption = None,
    tracking_uri: TrackingOption = None,
    strict: StrictOption = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print the plan and its cost; train nothing. Needs neither data nor weights nor captions."
        ),
    ] = False,
    price: PriceOption = None,
    measured: MeasuredOption = None,
    as_json: JSONOption = False,
) -> None:
    """Run an experiment: train the cells that are not finished, and print the table beside the published numbers.

    --axis adds an axis to an experiment, whose values become rows. Without an experiment, --recipe RECIPE --axis A=1,2 --axis
    B=3,4 trains a recipe at A x B; the first axis is the rows, the second the columns, others are in the rows.

    It can be interrupted and repeated at any time: finished cells are not trained again, interrupted ones resume from their
    last checkpoint.
    """
    with exit_on_user_error(), nullcontext() if as_json else show_phases(console):
        phase(f"checking {file or recipe or 'the command'}")
        from tadp_ray.hub import cached_only
        from tadp_ray.sweep.plan import Choices, choose
        from tadp_ray.sweep.reach import cluster_address, ping
        from tadp_ray.sweep.storage import check_storage

        if found := cluster_address(address):
            ping(found)
        recipe, numbers = recipe and file_of(recipe, "recipes"), None if seeds is None else parse_seeds(seeds)
        choices = Choices(
            overrides=changes or (), seeds=numbers, only=only or (), axes=axis or (), name=name, dry=dry_run
        )
        file = file and file_of(file, "experiments")
        if dry_run:
            from tadp_ray.tracking.store import existing_store

            with cached_only():
                plan = choose(file, scale, recipe, choices)
                plan.warn()
                planned = plan_preview(plan, existing_store(tracking_uri), address, strict, price, measured)
            phase("")
            show(planned.record(), planned.lines(), as_json)
            return
        check_dry(price=price, measured=measured, json=as_json or None)
        plan = choose(file, scale, recipe, choices)
        plan.warn()
        check_storage(plan.recipe.compute)
        phase("opening MLflow's store")
        from tadp_ray.tracking.store import open_store

        store = open_store(tracking_uri)

        from tadp_ray.reporting.results import table_lookup
        from tadp_ray.sweep.engine import run_plan
        from tadp_ray.tracking.query import require_finished

        hints = launch_lines(context, store, plan)
        run, complete = run_plan(plan, store, address, console, strict=strict, hints=hints)
        others = table_lookup(store, plan.source, recipe, scale)
        filled = show_results(store, run, plan.table, plan.cells, plan.folder, others, strict=strict)
        show_closing(filled, store, context, plan.name)
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
            from tadp_ray.hub import cached_only
            from tadp_ray.sweep.preview import recipe_preview

            with cached_only():
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
    folder: Annotated[
        Path,
        typer.Argument(help="Folder for images, targets, predictions and classes.txt; a new one, unless with --image."),
    ],
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
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"{folder}: not empty, and its files could be taken for this cell's; name another folder")
        from tadp_ray.tracking.query import trained_cell
        from tadp_ray.tracking.store import open_store

        cell, weights = trained_cell(open_store(tracking_uri, make=False), run)

        import torch

        from tadp_ray.data.datasets import Datasets
        from tadp_ray.tasks.build import task_of
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
    file: Annotated[
        Path,
        typer.Argument(
            help="An experiment: a file, or the name of a shipped one; or the name of a sweep in the store, see `list`.",
            autocompletion=names_of("experiments"),
        ),
    ],
    scale: ScaleOption = "pocket",
    recipe: RecipeOption = None,
    against: Annotated[
        str | None,
        typer.Option(help="Baseline row, by heading or key=value, e.g. caption.precision=1.0."),
    ] = None,
    tracking_uri: TrackingOption = None,
    storage: Annotated[Path, typer.Option(help="Parent folder of the tables.")] = Path(STORAGE),
    as_json: JSONOption = False,
) -> None:
    """Write the table, the figures and the claims of an experiment's newest sweep, from MLflow alone.

    With --against, each entry shows its difference to the baseline row, with a 95 % interval over the scored images.
    """
    with exit_on_user_error():
        from tadp_ray.config.experiments import experiment_name, load_experiment
        from tadp_ray.reporting.results import latest_sweep, stored_experiment, table_lookup
        from tadp_ray.tracking.store import existing_store, open_store

        recipe = recipe and file_of(recipe, "recipes")
        if is_experiment(file) or not existing_store(tracking_uri):
            experiment = load_experiment(file_of(file, "experiments"))
            store = open_store(tracking_uri, make=False)
        else:
            store = open_store(tracking_uri, make=False)
            experiment, scale = stored_experiment(store, str(file), scale, [*shipped("experiments")])
        spec, newest = latest_sweep(store, experiment, recipe, scale)
        folder = storage / experiment_name(experiment.file, recipe) / scale
        others = table_lookup(store, experiment, recipe, scale)
        show_results(store, newest.run_id, spec, newest.cells, folder, others, against, as_json)


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


def is_experiment(file: Path) -> bool:
    """Return whether an argument names an experiment: a file or a shipped one, or what looks like the path of a file."""
    return (
        file.is_file() or file.name in shipped("experiments") or file.suffix in (".yaml", ".yml") or len(file.parts) > 1
    )


def parse_seeds(text: str) -> list[int]:
    """Parse seeds such as `0,1,2`.

    Raises:
        UserError: the text is not a list of distinct numbers.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
        raise UserError(f"--seeds {text}: expected distinct integers separated by commas, e.g. 0,1,2")
    return [int(part) for part in parts]


def text_similarity(weights: str) -> "Similarity":
    """Return the similarity of texts; torch is imported only for figures that need it."""
    from tadp_ray.conditioning.similarity import text_similarity as make_similarity

    return make_similarity(weights)


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

    filled, verdicts, files = write_results(store, spec, cells, folder, text_similarity, others, against, strict)
    attach(store, run, files)
    if against is None:
        seeds = len({cell.seed for cell in cells})
        describe(store, run, numbers(filled), note(filled, verdicts, links(store, run, seeds)))
    if as_json:
        show(table_record(filled, verdicts, files), (), as_json)
        return filled
    written = f"written to {folder}: {', '.join(path.name for path in files)}"
    console.print(terminal(filled))
    for line in (filled.caption, *filled.notes, *(own.sentence for own in verdicts), written):
        say(line)
    return filled


def show_closing(filled: "Table", store: "Store", context: typer.Context, name: str) -> None:
    """Print what a sweep has found, the next command worth running, and where its cells are seen."""
    from tadp_ray.reporting.closing import Commands, closing_lines

    seeds = context.params["seeds"]
    commands = Commands(
        sweep=retyped(context, "sweep", without=("seeds", "only", "strict")),
        table=table_command(context, name),
        report=retyped(context, "report", only=("tracking_uri",)),
        seeds="" if seeds is None else f"--seeds {seeds}",
    )
    for line in closing_lines(filled, commands):
        say(line, style="bold")
    say(f"curves, pictures and parameters: {dashboard_command(context, store)}")


def launch_lines(context: typer.Context, store: "Store", plan: "Plan") -> list[str]:
    """Return the commands that matter while a sweep runs, and after it was stopped."""
    storage = "" if plan.storage == Path(STORAGE).absolute() else f" --storage {shlex.quote(str(plan.storage))}"
    return [
        f"curves    {dashboard_command(context, store)}",
        f"watch     {retyped(context, 'status', only=('tracking_uri',))}{storage}    (every cell, in another terminal)",
        f"table     {table_command(context, plan.name)}    (of what is finished)",
        f"stop      Ctrl-C, or {program()} stop{storage}",
        f"continue  {retyped(context, 'sweep')}",
    ]


def table_command(context: typer.Context, name: str) -> str:
    """Return the command that makes the table of the running sweep again; without a file, or with more axes, by its name."""
    if context.params["axis"]:
        return retyped(context, f"table {shlex.quote(name)}", only=("scale", "tracking_uri"))
    return retyped(context, "table", only=("file", "scale", "recipe", "tracking_uri"))


def dashboard_command(context: typer.Context, store: "Store") -> str:
    """Return the command that serves MLflow's page of the newest sweep, or the page's address if a server has it already."""
    from tadp_ray.tracking.dashboard import is_server, newest_page

    if is_server(store):
        return f"{store.safe_uri.rstrip('/')}{newest_page(store)[0]}"
    return retyped(context, "dashboard", only=("tracking_uri",))
