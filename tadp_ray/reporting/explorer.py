"""What a reader explores in a table: its charts, and each entry opened to its seeds, runs, curve, prompts and picture."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

from tadp_ray.config.cell import Cell, each_once
from tadp_ray.config.metrics import base_metric, further_metrics, metric_title
from tadp_ray.config.table import TableSpec
from tadp_ray.config.values import last_part, text_of
from tadp_ray.config.vocabulary import METRIC, MIN_COUNT
from tadp_ray.errors import UserError
from tadp_ray.layout import PREDICTED
from tadp_ray.reporting.charts import (
    Chart,
    compared_rows,
    curve_records,
    entry_curve,
    heat_maps,
    learning_curves,
)
from tadp_ray.reporting.compare import Images, differences_to
from tadp_ray.reporting.importance import MIN_RUNS, importance
from tadp_ray.reporting.resampling import PERCENT, RESAMPLES
from tadp_ray.reporting.results import per_image_results
from tadp_ray.reporting.search_charts import importance_chart, parallel_coordinates
from tadp_ray.reporting.seeds import paired_gap
from tadp_ray.reporting.shades import quantity
from tadp_ray.reporting.table import Place, Table, TableEntry, format_value, metric_label
from tadp_ray.tasks.per_image import PerImage
from tadp_ray.tracking.query import CellRow, Curve, history, per_image, stored_file
from tadp_ray.tracking.store import Store

MAX_OPENED = 48
"""Entries of a table whose prompts and pictures are shown, and runs whose results by image are read for intervals."""
MAX_COMPARED = 24
"""Rows that are compared in pairs."""
MAX_LINES = 500
"""Runs in parallel coordinates."""
MAX_LOSSES = 200
"""Runs whose losses are read, which a table does not need."""
LOSS = "loss"
PROMPTS = 4
"""Shown of an entry."""
PICTURE = (720, 4000)
"""The largest width and height of a picture of predictions in pixels."""


@dataclass(frozen=True)
class SeedRun:
    """One seed of an entry."""

    seed: int
    text: str
    """Its metric."""
    run_id: str


@dataclass(frozen=True)
class OpenedEntry:
    """What an entry of a table opens."""

    place: str
    """Identifies it on its page."""
    heading: str
    metric: str
    entry: TableEntry
    seeds: tuple[SeedRun, ...]
    prompts: tuple[tuple[str, str], ...] = ()
    """(image, prompt) of some validation images."""
    picture: Path | None = None
    """Predictions of its first seed."""


@dataclass(frozen=True)
class Explorer:
    """The charts of a table and its opened entries."""

    heat_maps: tuple[Chart, ...] = ()
    curves: tuple[Chart, ...] = ()
    charts: tuple[Chart, ...] = ()
    """Compared rows, parallel coordinates, importance."""
    opened: tuple[OpenedEntry, ...] = ()
    entry_curve: Mapping[str, Any] | None = None
    """The chart of an opened entry without its data."""
    entry_curves: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """Its data by place."""


def explore(
    store: Store,
    table: Table,
    cells: Sequence[Cell],
    done: Mapping[str, CellRow],
    curves: Mapping[str, Curve],
    images: Images,
    place_id: str,
    folder: Path,
) -> Explorer:
    """Return what a reader explores in a table with results.

    Args:
        store: holds the runs.
        table: the filled table.
        cells: every cell of the table.
        done: finished cells by fingerprint.
        curves: of the first metric by fingerprint.
        images: per-image results by run id, as far as they were read.
        place_id: prefix of the entries' places, which the page holds once.
        folder: where pictures are written.
    """
    title, first = metric_label(table.spec), base_metric(table.spec.metrics[0])
    decimals = first.decimals
    if not any(len(curve) > 1 for curve in curves.values()):
        # Cells that are evaluated only once have no curve but that of their loss.
        few = done if len(done) <= MAX_LOSSES else {}
        curves = {fingerprint: history(store, row.run_id, LOSS) for fingerprint, row in few.items()}
        title, decimals = "training loss", base_metric(LOSS).decimals
    placed = curves_by_place(table.spec, cells, curves)
    opened = tuple(open_entries(store, table, cells, done, place_id, folder))
    return Explorer(
        heat_maps=tuple(heat_maps(table, place_id)),
        curves=tuple(learning_curves(table.spec, placed, title, decimals)),
        charts=(
            *compared(store, table, done, images),
            *searched(*varied(table.spec, cells, done), first.decimals),
        ),
        opened=opened,
        entry_curve=entry_curve(title, decimals) if placed else None,
        entry_curves={f"{place_id}-{i}-{j}": curve_records(own) for (i, j), own in placed.items()},
    )


def curves_by_place(
    spec: TableSpec, cells: Sequence[Cell], curves: Mapping[str, Curve]
) -> dict[Place, dict[int, Curve]]:
    """Return the curves of the first metric by place and seed."""
    placed: dict[Place, dict[int, Curve]] = {}
    for cell in cells:
        if curve := curves.get(cell.fingerprint):
            placed.setdefault(spec.place(cell, spec.metrics[0]), {})[cell.seed] = curve
    return placed


def open_entries(
    store: Store, table: Table, cells: Sequence[Cell], done: Mapping[str, CellRow], place_id: str, folder: Path
) -> Iterator[OpenedEntry]:
    """Yield every entry with a finished seed; the prompts and pictures of a large table are left to the dashboard.

    They are of the main evaluation: a metric of another one has neither.
    """
    rows = {row.run_id: row for row in done.values()}
    further = {
        metric for recipe in {cell.group: cell.recipe for cell in cells}.values() for metric in further_metrics(recipe)
    }
    filled = [(i, j, entry) for i, row in enumerate(table.entries) for j, entry in enumerate(row) if entry.run_ids]
    for i, j, entry in filled:
        seeds = zip(entry.seeds, entry.values, entry.run_ids, strict=True)
        place = f"{place_id}-{i}-{j}"
        shown: dict[str, Any] = {}
        if len(filled) <= MAX_OPENED and entry.metric not in further:
            row = rows[entry.run_ids[0]]
            picture = copy_picture(store, row.run_id, folder / f"{place}.webp")
            shown = {"prompts": prompts_of(store, row), "picture": picture}
        yield OpenedEntry(
            place=place,
            heading=table.heading((i, j)),
            metric=metric_title(entry.metric),
            entry=entry,
            seeds=tuple(SeedRun(seed, format_value(entry.metric, value), run) for seed, value, run in seeds),
            **shown,
        )


def prompts_of(store: Store, row: CellRow) -> tuple[tuple[str, str], ...]:
    """Return some images of a run and their prompts; none if they were not kept or cannot be read."""
    try:
        images = per_image(store, row)
    except UserError:
        # The prompts only illustrate; the file is complained about where its numbers are used.
        return ()
    return tuple((image["id"], str(image.get("prompt", ""))) for image in images.images[:PROMPTS]) if images else ()


def copy_picture(store: Store, run_id: str, path: Path) -> Path | None:
    """Write a run's picture of predictions as WebP, small enough for a page with many; None if there is none, or a damaged one.

    It only illustrates.
    """
    with TemporaryDirectory() as folder:
        if (stored := stored_file(store, run_id, PREDICTED, Path(folder))) is None:
            return None
        try:
            with Image.open(stored) as picture:
                small = picture.convert("RGB")
        except (OSError, SyntaxError):
            return None
    small.thumbnail(PICTURE)
    path.parent.mkdir(parents=True, exist_ok=True)
    small.save(path, "WEBP", quality=72, method=4)
    return path


def compared(store: Store, table: Table, done: Mapping[str, CellRow], images: Images) -> Iterator[Chart]:
    """Yield a chart of compared rows for each quantity, unless the rows are metrics or too many."""
    spec = table.spec
    seeds = min((entry.n for row in table.entries for entry in row if entry.complete), default=0)
    if METRIC in spec.rows.keys or not 1 < len(spec.rows.names) <= MAX_COMPARED or not seeds:
        return
    if seeds < MIN_COUNT and not images and len(done) <= MAX_OPENED:
        images = read_images(store, done)
    records: dict[str, list[dict[str, Any]]] = {}
    find = of_seeds if seeds >= MIN_COUNT else of_images(images)
    rows = zip(spec.rows.headings, table.entries, strict=True)
    for (heading, row), (against, others) in itertools.permutations(rows, 2):
        for column, entry, other in zip(spec.columns.headings, row, others, strict=True):
            if entry.finite and other.finite and (found := find(entry, other)):
                own = {"row": heading, "against": against, "column": column, **found}
                records.setdefault(quantity(entry.metric), []).append(own)
    for measured, differences in records.items():
        yield compared_rows(spec, measured, differences, intervals_note(seeds, images))


Found = dict[str, Any]
"""A difference of two entries: `difference`, `low` and `high` of its interval, and whether they are told `apart`."""


def of_seeds(entry: TableEntry, other: TableEntry) -> Found | None:
    """Return an entry's difference to another, with an interval over seeds; None if they share too few."""
    if (gap := paired_gap(entry, other)) is None:
        return None
    return {"difference": gap.mean, "low": gap.low, "high": gap.high, "apart": gap.told_apart}


def of_images(images: Images) -> Callable[[TableEntry, TableEntry], Found | None]:
    """Return the function that does what `of_seeds` does, with intervals over the scored images, if there are any."""
    find = differences_to(images)

    def difference(entry: TableEntry, other: TableEntry) -> Found | None:
        found, _ = find(entry, other)
        if found is None:
            return None
        low, high = found.interval or (None, None)
        return {"difference": found.mean, "low": low, "high": high, "apart": found.significant}

    return difference


def read_images(store: Store, done: Mapping[str, CellRow]) -> dict[str, PerImage]:
    """Return the per-image results of finished cells by run id; those that cannot be read are left out."""
    results = {}
    for fingerprint, row in done.items():
        with suppress(UserError):
            results |= per_image_results(store, {fingerprint: row})
    return results


def intervals_note(seeds: int, images: Images) -> str:
    """Return what the intervals of compared rows are."""
    if seeds >= MIN_COUNT:
        return (
            f"Mean over the seeds that both rows have, with Student's {PERCENT} % interval of the difference within a seed, not "
            "corrected for multiple comparisons. A filled point differs from zero: its interval does not contain it."
        )
    few = "One seed" if seeds == 1 else f"{seeds} seeds"
    if not images:
        return f"{few}, so there are no intervals and no verdicts."
    return (
        f"{few}: the {PERCENT} % intervals cover only the sampling of the scored images ({RESAMPLES} resamples), not that of "
        "training. A filled point differs from zero on these images; there are no verdicts."
    )


def varied(
    spec: TableSpec, cells: Sequence[Cell], done: Mapping[str, CellRow]
) -> tuple[list[str], list[tuple[tuple[Any, ...], float]], str]:
    """Return the axes of a table, and the values and the first metric of each finished run."""
    keys = [key for key in (*spec.rows.keys, *spec.columns.keys) if key != METRIC]
    axes, runs = runs_of(keys, cells, done, spec.metrics[0])
    return axes, [*runs.values()], metric_label(spec)


def runs_of(
    keys: Sequence[str], cells: Sequence[Cell], done: Mapping[str, CellRow], metric: str
) -> tuple[list[str], dict[str, tuple[tuple[Any, ...], float]]]:
    """Return what varied, with the seed if it did, and the values and the metric of each finished run by its id."""
    seeds = len({cell.seed for cell in cells}) > 1
    runs = {
        row.run_id: (
            (*(plain(cell.axes.get(key)) for key in keys), *((cell.seed,) if seeds else ())),
            row.metrics[metric],
        )
        for cell in each_once(cells)
        if (row := done.get(cell.fingerprint)) and metric in row.metrics
    }
    return [*map(last_part, keys), *(("seed",) if seeds else ())], runs


def plain(value: Any) -> Any:
    """Return a value of an axis as a number or a text."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else text_of(value)


def searched(
    axes: Sequence[str], runs: Sequence[tuple[Sequence[Any], float]], metric: str, decimals: int
) -> Iterator[Chart]:
    """Yield parallel coordinates and importance, if several axes varied and there are runs enough."""
    if len([name for name in axes if name != "seed"]) < 2 or len(runs) < MIN_RUNS or len(set(axes)) < len(axes):
        return
    if len(runs) <= MAX_LINES:
        # Runs that differ in the seed alone lie on one another until they end.
        tried = [number for number, name in enumerate(axes) if name != "seed"]
        # One that diverged has no place on the axis of the metric.
        lines = [([values[number] for number in tried], value) for values, value in runs if math.isfinite(value)]
        yield parallel_coordinates([axes[number] for number in tried], lines, metric, decimals)
    if found := importance(axes, runs):
        yield importance_chart(found, metric)
