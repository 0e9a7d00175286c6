"""The answer of a sweep, out of MLflow alone: its table in every form and its figures, written beside each other."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tadp_ray.config.cell import Cell
from tadp_ray.config.claims import Verdict
from tadp_ray.config.experiments import ResolvedExperiment, experiment_name
from tadp_ray.config.table import TableSpec
from tadp_ray.config.vocabulary import Scale
from tadp_ray.errors import UserError
from tadp_ray.files import write_text
from tadp_ray.layout import CLAIMS, CURVES, FIGURE, TRACEBACK
from tadp_ray.reporting.claims import Tables, judge
from tadp_ray.reporting.compare import compare
from tadp_ray.reporting.figure import draw_curves, draw_table
from tadp_ray.reporting.matching import Encoders, matched
from tadp_ray.reporting.regression import correlation_notes, lines_of
from tadp_ray.reporting.render import claims_table, write_table
from tadp_ray.reporting.scatter import draw_lines
from tadp_ray.reporting.table import Table, build_table
from tadp_ray.tasks.per_image import PerImage
from tadp_ray.tracking.query import CellRow, finished, history, per_image, rows
from tadp_ray.tracking.store import Store
from tadp_ray.tracking.sweep_run import SweepRun, newest_sweep


def newest_answer(
    store: Store, asked: ResolvedExperiment, recipe: Path | None, scale: Scale
) -> tuple[TableSpec, SweepRun]:
    """The table that an experiment asks for, and the sweep that was asked for last to fill it.

    Raises:
        UserError: the store holds no such sweep.
    """
    found = newest_sweep(store, experiment_name(asked.file, recipe), scale)
    return asked.table(scale, found.cells[0].scale, found.settings), found


def other_tables(store: Store, asked: ResolvedExperiment, recipe: Path | None, scale: Scale) -> Tables:
    """Finds the tables of other experiments that the claims of one name, as far as they were run.

    Args:
        store: holds them.
        asked: the experiment whose claims they are.
        recipe: instead of the experiments' own.
        scale: of the tables.
    """

    def table_of(other: str | None) -> Table | None:
        try:
            spec, found = newest_answer(store, asked.other(other), recipe, scale)
            return fill(store, spec, found.cells)[0]
        except UserError:
            # A claim whose other table is not there is not decided, whatever it lacks.
            return None

    return table_of


def write_answer(
    store: Store,
    spec: TableSpec,
    cells: Sequence[Cell],
    folder: Path,
    encoders: Encoders,
    others: Tables,
    against: str | None = None,
) -> tuple[Table, list[Verdict], list[Path]]:
    """Lay out what MLflow holds of a sweep's cells: table.{md,tex,html,csv}, table.png, perhaps curves, a figure and claims.md.

    A table of differences has names of its own, `table-against-ROW`, and leaves the plain one as it is.

    Args:
        store: holds the cells.
        spec: the table that is asked for.
        cells: every cell of the table, finished or not.
        folder: where to write.
        encoders: what compares words, by the name of weights, for a figure that asks for it.
        others: tables of other experiments, which claims may name.
        against: the row that the others are compared with.

    Returns: the table, what is said of the claims, and the files.

    Raises:
        UserError: there is no row to compare with.
    """
    table, done = fill(store, spec, cells)
    images = by_image(store, done) if spec.figure or against is not None else {}
    if against is not None:
        table = compare(table, against, images)
    table, pictures = draw_answer(store, table, cells, done, images, folder, encoders)
    name = file_name(table)
    draw_table(table, folder / f"{name}.png")
    files = [*write_table(table, folder, name), folder / f"{name}.png", *pictures]
    found = [judge(claim, lambda other: table if other is None else others(other)) for claim in spec.claims]
    if found:
        files.append(folder / CLAIMS)
        write_text(files[-1], claims_table(found) + "\n")
    return table, found, files


def file_name(table: Table) -> str:
    """What a table's files are called, without their endings: by the row that the others are compared with, if any."""
    if table.baseline is None:
        return "table"
    words = [re.sub(r"[^\w.=+-]+", "-", heading)[:80].strip("-.") for heading in table.spec.rows.headings]
    word = words[table.baseline]
    return f"table-against-{word}" + (f"-{table.baseline + 1}" if words.count(word) > 1 or not word else "")


def by_image(store: Store, done: Mapping[str, CellRow]) -> dict[str, PerImage]:
    """What each image adds to a cell's score, by run, of the finished cells that kept it."""
    return {row.run_id: found for row in done.values() if (found := per_image(store, row.run_id))}


def draw_answer(
    store: Store,
    table: Table,
    cells: Sequence[Cell],
    done: Mapping[str, CellRow],
    images: Mapping[str, PerImage],
    folder: Path,
    encoders: Encoders,
) -> tuple[Table, list[Path]]:
    """Draw how the cells learned, if they tell, and the figure that is asked for.

    Returns: the table with the figure's words, and the files.
    """
    spec, pictures = table.spec, []
    # What an earlier answer drew must not stand beside this table.
    for name in (CURVES, FIGURE):
        (folder / name).unlink(missing_ok=True)
    curves = {fingerprint: history(store, row.run_id, spec.curve) for fingerprint, row in done.items()}
    # Cells that are scored once, at their end, have points and no curves: the table tells them.
    if any(len(curve) > 1 for curve in curves.values()):
        pictures.append(folder / CURVES)
        draw_curves(spec, cells, curves, pictures[0])
    if spec.figure:
        try:
            images = matched(spec.figure.match_at(spec.scale), cells, done, images, encoders, folder)
        except UserError as error:
            # The table does not need it, and a figure by another rule than was asked for would be a wrong one.
            return replace(table, notes=(*table.notes, f"Figure: not drawn, {error}")), pictures
        lines = lines_of(spec, cells, done, images)
        table = replace(table, notes=(*table.notes, *correlation_notes(spec.figure, spec.scale, lines)))
        pictures.append(folder / FIGURE)
        draw_lines(spec.figure, lines, spec.scale, pictures[-1])
    return table, pictures


def fill(store: Store, spec: TableSpec, cells: Sequence[Cell]) -> tuple[Table, dict[str, CellRow]]:
    """The table as far as MLflow holds its cells, and the finished ones by fingerprint."""
    done = finished(store, [cell.fingerprint for cell in cells])
    ended = rows(store, cells[0].experiment, spec.scale)
    traces = {cell.fingerprint: cell.folder / TRACEBACK for cell in cells}
    failed = {
        row.fingerprint: reason(row, traces.get(row.fingerprint))
        for row in ended
        if row.status == "FAILED" and row.fingerprint not in done
    }
    return build_table(spec, cells, done, failed), done


def reason(row: CellRow, trace: Path | None) -> str:
    """Why a cell failed, in a line; of a bug also where its whole traceback is, if that is on this machine."""
    said = (row.error or "").strip().partition("\n")[0]
    return f"{said}; the whole traceback: {trace}" if trace and trace.is_file() else said
