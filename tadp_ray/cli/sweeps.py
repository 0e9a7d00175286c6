"""Commands on experiments and recipes: sweep, train, search, schema."""

import shlex
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tadp_ray.cli.common import (
    AddressOption,
    ChangesOption,
    JSONOption,
    RecipeOption,
    ScaleOption,
    StrictOption,
    TrackingOption,
    console,
    names_of,
    say,
    show,
)
from tadp_ray.cli.dry_run import MeasuredOption, PriceOption, check_dry, plan_preview, recipe_lines
from tadp_ray.cli.phases_shown import show_phases
from tadp_ray.cli.results import show_results
from tadp_ray.cli.retype import program, retyped
from tadp_ray.config.shipped import file_of
from tadp_ray.config.vocabulary import SEED_MAX
from tadp_ray.errors import UserError
from tadp_ray.layout import STORAGE
from tadp_ray.phases import phase

if TYPE_CHECKING:
    from tadp_ray.reporting.table import Table
    from tadp_ray.sweep.plan import Plan
    from tadp_ray.tracking.store import Store


def sweep(
    context: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(
            help="Experiment: a file or a shipped name, e.g. prec_recall (see `ls`).",
            show_default="none; use --recipe and --axis instead",
            autocompletion=names_of("experiments"),
        ),
    ] = None,
    scale: ScaleOption = "pocket",
    recipe: RecipeOption = None,
    axis: Annotated[
        list[str] | None,
        typer.Option(help="Additional axis: a recipe key and its values, e.g. model.timestep=1,50,200. Repeatable."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Name of a sweep with --axis.", show_default="the experiment or recipe, and the axes"),
    ] = None,
    changes: ChangesOption = None,
    seeds: Annotated[
        str | None, typer.Option(help="Random seeds, e.g. 0,1,2.", show_default="those of the experiment")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Train only cells with this value of an axis, e.g. caption.recall=1.0. Repeatable."),
    ] = None,
    address: AddressOption = None,
    tracking_uri: TrackingOption = None,
    strict: StrictOption = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print the plan and its cost, without training. Needs no data, weights or captions."
        ),
    ] = False,
    price: PriceOption = None,
    measured: MeasuredOption = None,
    as_json: JSONOption = False,
) -> None:
    """Run an experiment and print its table.

    The command trains the cells that are not finished. The table shows the results beside the published numbers.

    --axis adds an axis to an experiment. Its values become rows of the table. Without an experiment, --recipe RECIPE --axis A=1,2
    --axis B=3,4 trains the recipe with all combinations of A and B. The first axis becomes the rows, the second the columns, and
    further axes are added to the rows.

    You can interrupt and repeat the command at any time. Finished cells are not trained again; interrupted cells resume from
    their last checkpoint.
    """
    with nullcontext() if as_json else show_phases(console):
        phase(f"checking {file or recipe or 'the command'}")
        from tadp_ray.hub import cached_only
        from tadp_ray.sweep.choices import Choices
        from tadp_ray.sweep.planning import choose
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

        hints = partial(launch_lines, context, store, plan)
        run, complete = run_plan(plan, store, address, console, strict=strict, hints=hints)
        others = table_lookup(store, plan.source, recipe, scale)
        filled = show_results(store, run, plan.table, plan.cells, plan.folder, others, strict=strict)
        show_closing(filled, store, context, plan.name, run)
        if not complete:
            raise typer.Exit(1)
        require_finished(store, plan.selected)


def train(
    recipe: Annotated[
        Path,
        typer.Argument(
            help="Recipe: a file or a shipped name, e.g. pocket_depth.",
            autocompletion=names_of("recipes"),
        ),
    ],
    changes: ChangesOption = None,
    seed: Annotated[int, typer.Option(min=0, max=SEED_MAX, help="Random seed.")] = 0,
    address: AddressOption = None,
    tracking_uri: TrackingOption = None,
    strict: StrictOption = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Check inputs, list missing ones, and print settings, parameters, FLOPs and memory. Trains nothing.",
        ),
    ] = False,
) -> None:
    """Train one recipe and print its metrics.

    If the command is interrupted, repeat it: it resumes from the last checkpoint.
    """
    recipe = file_of(recipe, "recipes")
    if dry_run:
        for line in recipe_lines(recipe, changes or (), seed):
            say(line)
        return

    from tadp_ray.sweep.engine import run_plan
    from tadp_ray.sweep.planning import plan_one
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
            help="Recipe to improve: a file or a shipped name.",
            autocompletion=names_of("recipes"),
        ),
    ],
    file: Annotated[
        Path,
        typer.Argument(
            help="Search: a file or a shipped name, e.g. search_learning_rate.",
            autocompletion=names_of("searches"),
        ),
    ],
    out: Annotated[Path, typer.Option(help="Recipe file to write.")],
    changes: ChangesOption = None,
    seed: Annotated[
        int, typer.Option(min=0, max=SEED_MAX, help="Random seed of the candidates and of their training.")
    ] = 0,
    address: AddressOption = None,
    tracking_uri: TrackingOption = None,
) -> None:
    """Search hyperparameters and write the best ones as a recipe.

    The command trains many candidates and stops the worse ones early.
    """
    from tadp_ray.sweep.engine import run_plan
    from tadp_ray.sweep.search import check_out, plan_search, write_best
    from tadp_ray.tracking.store import open_store

    recipe, file = file_of(recipe, "recipes"), file_of(file, "searches")
    plan = plan_search(recipe, file, changes or (), seed)
    check_out(recipe, out)
    store = open_store(tracking_uri)
    plan.warn()
    run_plan(plan, store, address, console)
    say(f"{out}: {write_best(plan, store, recipe, changes or (), out)}")


def schema(
    folder: Annotated[Path, typer.Argument(help="Output folder.")] = Path("experiments/schemas"),
) -> None:
    """Write the JSON Schemas of all kinds of YAML files.

    Editors use them to complete and validate the files.
    """
    from tadp_ray.config.export import write_schemas

    for path in write_schemas(folder):
        say(path)


def parse_seeds(text: str) -> tuple[int, ...]:
    """Parse seeds such as `0,1,2`.

    Raises:
        UserError: the text is not a list of distinct numbers.
    """
    from tadp_ray.config.vocabulary import seeds_of

    parts = [part.strip() for part in text.split(",")]
    try:
        return seeds_of(int(part) if part.isdecimal() else part for part in parts)
    except ValueError as error:
        raise UserError(f"--seeds {text}: {error}") from None


def show_closing(filled: "Table", store: "Store", context: typer.Context, name: str, run: str) -> None:
    """Print what a sweep has found, the next command worth running, and where to see its cells."""
    from tadp_ray.reporting.closing import NextCommands, closing_lines

    commands = NextCommands(
        again=retyped(context, "sweep", without=("only", "strict")),
        sweep=retyped(context, "sweep", without=("seeds", "only", "strict")),
        table=table_command(context, name),
        report=retyped(context, "report", only=("tracking_uri",)),
    )
    for line in closing_lines(filled, commands):
        say(line, style="bold")
    say(f"curves, pictures and parameters: {dashboard_command(context, store, run)}")


def launch_lines(context: typer.Context, store: "Store", plan: "Plan", run: str) -> list[str]:
    """Return the commands that matter while a sweep, a run in MLflow, goes on, and after it was stopped."""
    storage = "" if plan.storage == Path(STORAGE).absolute() else f" --storage {shlex.quote(str(plan.storage))}"
    return [
        f"curves    {dashboard_command(context, store, run)}",
        f"watch     {retyped(context, 'status', only=('tracking_uri',))}{storage}    (every cell, in another terminal)",
        f"table     {table_command(context, plan.name)}    (of what is finished)",
        f"stop      Ctrl-C, or {program()} stop{storage}",
        f"continue  {retyped(context, 'sweep')}",
    ]


def table_command(context: typer.Context, name: str) -> str:
    """Return the command that makes the table of the running sweep again: by the sweep's name if it has no file or more axes."""
    if context.params["axis"]:
        return retyped(context, f"table {shlex.quote(name)}", only=("scale", "tracking_uri"))
    return retyped(context, "table", only=("file", "scale", "recipe", "tracking_uri"))


def dashboard_command(context: typer.Context, store: "Store", run: str) -> str:
    """Return the command that serves MLflow's page of the newest sweep; of a server, the address of this sweep's page."""
    from tadp_ray.tracking.dashboard import is_server
    from tadp_ray.tracking.view import sweep_page

    if is_server(store):
        return f"{store.safe_uri.rstrip('/')}{sweep_page(store, run)}"
    return retyped(context, "dashboard", only=("tracking_uri",))
