"""Commands on what was run: list, status, logs, stop, gc."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tadp_ray.cli.common import JSONOption, TrackingOption, console, say, show
from tadp_ray.cli.retype import retyped
from tadp_ray.config.errors import nearest
from tadp_ray.errors import UserError
from tadp_ray.layout import STORAGE
from tadp_ray.sweep.rules import DEFAULT_RULES, RULES
from tadp_ray.wording import pluralized

if TYPE_CHECKING:
    from rich.table import Table

    from tadp_ray.sweep.cleaning import Removable
    from tadp_ray.sweep.states import CellReport

StorageOption = Annotated[Path, typer.Option(help="Storage folder of the sweeps (compute.storage).")]
SweepArgument = Annotated[
    str | None,
    typer.Argument(help="Name of a sweep (see `list`).", show_default="the running sweep, or the newest one"),
]


def list_sweeps(
    tracking_uri: TrackingOption = None, storage: StorageOption = Path(STORAGE), as_json: JSONOption = False
) -> None:
    """List the sweeps that were run, newest first, with their states. `ls` lists the shipped files."""
    from tadp_ray.sweep.states import sweep_reports
    from tadp_ray.tracking.store import open_store

    store = open_store(tracking_uri, make=False)
    found = sweep_reports(store, storage.absolute())
    if as_json:
        return show([report.record() for report in found], (), as_json)
    if not found:
        return say(f"MLflow at {store.safe_uri} holds no sweep")
    rows = [
        (
            report.entry.name,
            report.entry.scale,
            report.state,
            "unreadable" if report.cells is None else f"{report.done}/{report.cells}",
            local_time(report.entry.asked),
            report.settings,
        )
        for report in found
    ]
    console.print(grid(("sweep", "scale", "state", "cells", "last started", "settings"), rows))


def local_time(asked: str) -> str:
    """Return when a sweep was started by this machine's clock, as `logs` shows times; empty if that is not known."""
    return datetime.fromisoformat(asked).astimezone().strftime("%Y-%m-%d %H:%M") if asked else ""


def status(
    context: typer.Context,
    name: SweepArgument = None,
    tracking_uri: TrackingOption = None,
    storage: StorageOption = Path(STORAGE),
    as_json: JSONOption = False,
) -> None:
    """Show the state, step and score of each cell of a sweep.

    A cell is finished, training, failed (with the error), stopped early, interrupted or not started.
    """
    from tadp_ray.config.metrics import main_metric
    from tadp_ray.sweep.running import running_sweep
    from tadp_ray.sweep.states import cell_reports, find_sweep
    from tadp_ray.tracking.store import open_store

    store, storage = open_store(tracking_uri, make=False), storage.absolute()
    entry, plan = find_sweep(store, name, storage)
    reports, running = cell_reports(store, entry, plan), running_sweep(storage)
    is_running = running is not None and running.run_id == entry.run_id
    if as_json:
        facts = {"name": entry.name, "scale": entry.scale, "settings": plan.settings, "running": is_running}
        return show(facts | {"cells": [report.record() for report in reports]}, (), as_json)
    counts = Counter(report.state for report in reports)
    told = ", ".join(f"{count} {state}" for state, count in counts.items())
    say(f"{entry.name} ({entry.scale} scale, {plan.settings}){', running' if is_running else ''}: {told}")
    metric = main_metric(plan.cells[0].recipe.task)
    console.print(grid(("cell", "state", "step", metric, "fingerprint"), list(map(cell_row, reports))))
    if not is_running and (unsent := sum(report.unsent for report in reports)):
        lacking = pluralized(unsent, "finished cells")
        say(f"MLflow lacks {lacking}, and so do tables; run the sweep again, which sends what the journals hold")
    for report in (report for report in reports if report.error):
        say(f"{report.cell.name}: {report.error}")
        say(f"  {retyped(context, f'logs {report.cell.fingerprint[:8]}', only=('tracking_uri', 'storage'))}")


def cell_row(report: "CellReport") -> tuple[str, ...]:
    """Return the row of a cell in the table of `status`."""
    step = f"{report.step}/{report.cell.recipe.schedule.iterations}"
    score = "" if report.score is None else f"{report.score:.4g}"
    return report.cell.name, report.state, step, score, report.cell.fingerprint[:16]


def logs(
    cell: Annotated[
        list[str],
        typer.Argument(
            help="Cell: its run id, the first digits of its fingerprint, or axis values: recall=1.0 seed=0."
        ),
    ],
    sweep: Annotated[
        str | None,
        typer.Option(
            help="Sweep of the cell (see `list`).", show_default="for axis values: the running sweep, or the newest one"
        ),
    ] = None,
    tracking_uri: TrackingOption = None,
    storage: StorageOption = Path(STORAGE),
    as_json: JSONOption = False,
) -> None:
    """Show what happened to one cell.

    The log contains its starts, evaluations, checkpoints and end, the traceback of an error, and the output of its processes.
    """
    from tadp_ray.sweep.cell_log import cell_log
    from tadp_ray.sweep.states import find_cell
    from tadp_ray.tracking.store import open_store

    store = open_store(tracking_uri, make=False)
    log = cell_log(store, find_cell(store, cell, sweep, storage.absolute()))
    show(log.record(), log.lines(), as_json)


def stop(storage: StorageOption = Path(STORAGE)) -> None:
    """Stop the sweep that runs in a storage folder, as Ctrl-C does.

    Checkpoints are kept. The command that started the sweep also resumes it.
    """
    from tadp_ray.sweep.running import stop_sweep

    found = stop_sweep(storage.absolute())
    say(f"{found.name} ({found.scale} scale) was stopped; run the same command again to resume")


def gc(
    rules: Annotated[
        list[str] | None,
        typer.Argument(help=f"What to delete: {', '.join(RULES)}.", show_default=" ".join(DEFAULT_RULES)),
    ] = None,
    sweep: Annotated[
        str | None, typer.Option(help="Delete only files of cells that this sweep trained (see `list`).")
    ] = None,
    older_than: Annotated[
        float, typer.Option(min=0, help="Delete only files that are at least this many days old.")
    ] = 0.0,
    yes: Annotated[
        bool, typer.Option("--yes", help="Delete without asking. Without this option, --json only lists the files.")
    ] = False,
    tracking_uri: TrackingOption = None,
    storage: StorageOption = Path(STORAGE),
    as_json: JSONOption = False,
) -> None:
    """Delete files of finished cells that no table or report needs.

    The command first shows what it would delete, with sizes.

    checkpoints: files for resuming, and the weights of the best evaluation.

    predictions: pictures of predictions, which MLflow stores as well.

    weights: the final weights, which `predict` and analyses need. They are deleted only if you name them.

    Journals, and files of cells that are not finished in MLflow, are never deleted.
    """
    from tadp_ray.sweep.cleaning import delete, removable
    from tadp_ray.tracking.store import open_store

    chosen = list(dict.fromkeys(rules or DEFAULT_RULES))
    if unknown := next((rule for rule in chosen if rule not in RULES), None):
        raise UserError(f"{unknown}: nothing that gc deletes; {nearest(unknown, list(RULES))}")
    store = open_store(tracking_uri, make=False)
    found = removable(store, storage.absolute(), chosen, sweep, older_than)
    if as_json:
        show([each.record() for each in found], (), as_json)
    else:
        console.print(grid(("files", "cells", "number", "MiB"), list(map(removable_row, found))))
        for line in losses(found):
            say(line)
    if not any(each.files for each in found):
        return None if as_json else say("nothing to delete")
    if not yes and (as_json or not typer.confirm("Delete these files?")):
        return None
    freed = delete(found)
    return None if as_json else say(f"deleted {freed / 2**20:,.1f} MiB")


def removable_row(each: "Removable") -> tuple[str, ...]:
    """Return the row of a rule in the table of `gc`."""
    return each.rule, str(each.cells), str(len(each.files)), f"{each.size / 2**20:,.1f}"


def losses(found: Sequence["Removable"]) -> Iterator[str]:
    """Yield, for each rule, a line on what is no longer possible without its files."""
    for each in found:
        if each.files and (loss := RULES[each.rule].loss):
            yield f"{each.rule} of {pluralized(each.cells, 'cells')}: {loss}"


def grid(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> "Table":
    """Return a table without lines, one row per row; long texts are wrapped and never cut."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        # As Text, since rich would read brackets as markup.
        table.add_row(*(Text(str(value)) for value in row))
    return table
