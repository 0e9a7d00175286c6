"""Writes the results of a sweep, from MLflow alone: its table in every format, its figures and its claims."""

import logging
import os
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pydantic import JsonValue

from tadp_ray.config.asked import experiment_of
from tadp_ray.config.cell import Cell
from tadp_ray.config.claims import Verdict
from tadp_ray.config.errors import nearest
from tadp_ray.config.resolve import ResolvedExperiment, experiment_name
from tadp_ray.config.shipped import name_of
from tadp_ray.config.table import TableSpec
from tadp_ray.config.vocabulary import METRIC, Scale
from tadp_ray.errors import UserError
from tadp_ray.files import write_text
from tadp_ray.layout import CLAIMS, CURVES, FIGURE, TRACEBACK
from tadp_ray.reporting.claims import Tables, judge
from tadp_ray.reporting.compare import compare
from tadp_ray.reporting.figure import draw_curves, draw_table
from tadp_ray.reporting.matching import match_all
from tadp_ray.reporting.regression import correlation_notes, fit_rows
from tadp_ray.reporting.render import claims_table, write_table
from tadp_ray.reporting.scatter import draw_lines
from tadp_ray.reporting.table import Table, build_table
from tadp_ray.tasks.per_image import PerImage
from tadp_ray.tracking.query import CellRow, Curve, finished, history, per_image, rows
from tadp_ray.tracking.store import Store
from tadp_ray.tracking.sweep_run import (
    SweepEntry,
    SweepRun,
    first_of_each,
    newest_sweep,
    newest_tables,
    read_sweep,
    sweep_entries,
)

log = logging.getLogger(__name__)


def latest_sweep(
    store: Store, experiment: ResolvedExperiment, recipe: Path | None, scale: Scale
) -> tuple[TableSpec, SweepRun]:
    """Return an experiment's table and the newest sweep that was started for it.

    Raises:
        UserError: the store holds no such sweep, or the file of the experiment or of the sweep has other axes since.
    """
    sweep = newest_sweep(store, experiment_name(experiment.file, recipe), scale)
    other = recipe_of_command(sweep)
    if recipe and other not in ("", name_of(recipe, "recipes")) and os.path.abspath(other) != os.path.abspath(recipe):
        log.warning(f"the newest sweep of {experiment_name(experiment.file, recipe)} is of another recipe, {other}")
    spec = experiment.table(scale, sweep.cells[0].scale, sweep.settings)
    # Cells that differ in an axis without a place in the table would be taken for seeds of one entry.
    if differing := sorted(({*spec.rows.keys, *spec.columns.keys} - {METRIC}) ^ sweep.cells[0].axes.keys()):
        named = ", ".join(differing)
        raise UserError(f"the sweep that was run and the files do not have the same axes ({named}); run it again")
    return spec, sweep


def recipe_of_command(sweep: SweepRun) -> str:
    """Return the recipe that a sweep's command names; empty if it names none."""
    words = shlex.split(sweep.layout["command"]) if sweep.layout else []
    return words[words.index("--recipe") + 1] if "--recipe" in words[:-1] else ""


def stored_experiment(store: Store, name: str, scale: Scale, files: Sequence[str]) -> tuple[ResolvedExperiment, Scale]:
    """Return the experiment of the newest sweep of a name, from MLflow alone, and the sweep's scale; else as `stored_sweep`.

    Raises:
        UserError: the store holds no such sweep, or one without a table.
    """
    entry = stored_sweep(store, name, scale, files)
    return experiment_of_sweep(entry, read_sweep(store, entry.run_id)), entry.scale


def stored_sweep(store: Store, name: str, scale: Scale, files: Sequence[str]) -> SweepEntry:
    """Return the newest sweep of a name, if possible one that fills a table.

    Args:
        store: MLflow.
        name: of the sweep.
        scale: which of its sweeps, if there are some of both.
        files: names of experiments with a file, for the error.

    Raises:
        UserError: the store holds no such sweep.
    """
    entries = sweep_entries(store, name)
    if not entries:
        known = sorted({*files, *(entry.name for entry in sweep_entries(store))})
        raise UserError(
            f"{name}: neither an experiment (`tadp-ray ls` lists the shipped ones) nor a sweep in MLflow at {store.safe_uri} "
            f"(`tadp-ray list`); {nearest(name, known)}"
        )
    filled = newest_tables(entries) or entries
    return next((each for each in filled if each.scale == scale), filled[0])


def other_experiments(
    store: Store, entries: Sequence[SweepEntry], named: Collection[str]
) -> list[tuple[ResolvedExperiment, Scale]]:
    """Return the experiments of all other sweeps that fill a table, each by its newest sweep, and their scales."""
    found = []
    for entry in first_of_each(newest_tables(entries)):
        if entry.name in named:
            continue
        # A plan of other code may be unreadable.
        with suppress(UserError):
            found.append((experiment_of_sweep(entry, read_sweep(store, entry.run_id)), entry.scale))
    return found


def experiment_of_sweep(entry: SweepEntry, sweep: SweepRun) -> ResolvedExperiment:
    """Return the experiment of a sweep, as its plan in MLflow lays it out.

    Raises:
        UserError: it has no table, like the training of one recipe, or other code wrote it.
    """
    if sweep.layout is None:
        raise UserError(f"{entry.name}: fills no table; `tadp-ray status {shlex.quote(entry.name)}` shows its cells")
    try:
        return experiment_of(sweep.layout, entry.name, entry.scale)
    except ValueError as error:
        raise UserError(f"{entry.name}, run {sweep.run_id}: {error}; run the sweep again") from None


def table_lookup(store: Store, experiment: ResolvedExperiment, recipe: Path | None, scale: Scale) -> Tables:
    """Return a function that finds the tables of other experiments, which claims may name; it makes each table once.

    Args:
        store: where the tables' cells are.
        experiment: the experiment that makes the claims.
        recipe: replaces the experiments' own recipes.
        scale: of the tables.
    """

    made: dict[str, Table | None] = {}

    def table_of(other: JsonValue) -> Table | None:
        if (name := str(other)) not in made:
            try:
                spec, sweep = latest_sweep(store, experiment.other(other), recipe, scale)
                made[name] = fill_table(store, spec, sweep.cells)[0]
            except UserError:
                # A claim is undecided when the other table is missing, whatever the reason.
                made[name] = None
        return made[name]

    return table_of


def write_results(
    store: Store,
    spec: TableSpec,
    cells: Sequence[Cell],
    folder: Path,
    others: Tables,
    against: str | None,
    strict: bool,
) -> tuple[Table, list[Verdict], list[Path]]:
    """Write a sweep's table (.md, .tex, .html, .csv, .png) and, where they apply, curves.png, figure.png and claims.md.

    A table of differences is written as `table-against-ROW` and leaves the plain table untouched.

    Args:
        store: holds the cells.
        spec: the layout of the table.
        cells: every cell of the table, finished or not.
        folder: where to write.
        others: tables of other experiments, which claims may name.
        against: the baseline row; None for no differences.
        strict: leave out cells that only other code has trained.

    Returns: the table, the verdicts on the claims, and the paths of the files.

    Raises:
        UserError: there is no such baseline row.
    """
    table, done = fill_table(store, spec, cells, strict=strict)
    images = per_image_results(store, done) if spec.figure or against is not None else {}
    if against is not None:
        table = compare(table, against, images)
    table, pictures = draw_figures(table, cells, done, curves_of(store, spec, done), images, folder)
    name = file_name(table)
    draw_table(table, folder / f"{name}.png")
    files = [*write_table(table, folder, name), folder / f"{name}.png", *pictures]
    verdicts = [judge(claim, lambda other: table if other is None else others(other)) for claim in spec.claims]
    # Verdicts of an earlier call must not lie beside a table whose experiment claims nothing any more.
    (folder / CLAIMS).unlink(missing_ok=True)
    if verdicts:
        files.append(folder / CLAIMS)
        write_text(files[-1], claims_table(verdicts) + "\n")
    return table, verdicts, files


def file_name(table: Table) -> str:
    """Return the name of a table's files without their extension: `table`, or `table-against-ROW`."""
    if table.baseline is None:
        return "table"
    slugs = [re.sub(r"[^\w.=+-]+", "-", heading)[:80].strip("-.") for heading in table.spec.rows.headings]
    slug = slugs[table.baseline]
    return f"table-against-{slug}" + (f"-{table.baseline + 1}" if slugs.count(slug) > 1 or not slug else "")


def per_image_results(store: Store, done: Mapping[str, CellRow]) -> dict[str, PerImage]:
    """Return the per-image results of finished cells by run id; cells without any are left out."""
    return {row.run_id: images for row in done.values() if (images := per_image(store, row))}


def curves_of(store: Store, spec: TableSpec, done: Mapping[str, CellRow]) -> dict[str, Curve]:
    """Return the learning curve of every finished cell by fingerprint."""
    return {fingerprint: history(store, row.run_id, spec.curve) for fingerprint, row in done.items()}


def draw_figures(
    table: Table,
    cells: Sequence[Cell],
    done: Mapping[str, CellRow],
    curves: Mapping[str, Curve],
    images: Mapping[str, PerImage],
    folder: Path,
) -> tuple[Table, list[Path]]:
    """Draw the learning curves, if there are any, and the experiment's figure, if it has one.

    Returns: the table with notes on the figure, and the paths of the pictures.
    """
    spec, pictures = table.spec, []
    # Pictures of an earlier call must not lie beside this table.
    for name in (CURVES, FIGURE):
        (folder / name).unlink(missing_ok=True)
    # Cells that are evaluated only once have no curve; the table shows their single value.
    if any(len(curve) > 1 for curve in curves.values()):
        pictures.append(folder / CURVES)
        draw_curves(spec, cells, curves, pictures[0])
    if spec.figure:
        try:
            images = match_all(spec.figure.match_at(spec.scale), cells, done, images, folder)
        except UserError as error:
            # The table does not depend on the figure, and another matching rule would draw a wrong one.
            return replace(table, notes=(*table.notes, f"Figure: not drawn, {error}")), pictures
        lines = fit_rows(spec, spec.figure.kind, cells, done, images)
        table = replace(table, notes=(*table.notes, *correlation_notes(spec.figure, spec.scale, lines)))
        pictures.append(folder / FIGURE)
        draw_lines(spec.figure, lines, spec.scale, pictures[-1])
    return table, pictures


def fill_table(
    store: Store,
    spec: TableSpec,
    cells: Sequence[Cell],
    found: Mapping[str, CellRow] | None = None,
    strict: bool = False,
) -> tuple[Table, dict[str, CellRow]]:
    """Return the table with the values that MLflow holds, and the finished cells by fingerprint.

    Args:
        store: MLflow.
        spec: the layout of the table.
        cells: every cell of the table.
        found: finished cells of several tables by fingerprint, which were searched together; None: search these.
        strict: leave out cells that only other code has trained.
    """
    wanted = [cell.fingerprint for cell in cells]
    if found is None:
        done = finished(store, wanted, strict=strict)
    else:
        done = {fingerprint: found[fingerprint] for fingerprint in wanted if fingerprint in found}
    latest = {row.fingerprint: row for row in rows(store, cells[0].experiment, finished=False)}
    failed = {
        cell.fingerprint: failure_reason(row, cell.folder / TRACEBACK)
        for cell in cells
        if cell.fingerprint not in done and (row := latest.get(cell.fingerprint)) and row.status == "FAILED"
    }
    return build_table(spec, cells, done, failed), done


def failure_reason(row: CellRow, traceback: Path) -> str:
    """Return a failed cell's error in one line, with the path of its traceback if that file is on this machine."""
    reason = (row.error or "").strip().partition("\n")[0]
    return f"{reason}; the whole traceback: {traceback}" if traceback.is_file() else reason
