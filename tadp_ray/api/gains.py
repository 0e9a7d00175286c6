"""Where one row of a table gains and loses most against another, image by image, with the captions of both."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tadp_ray.config.classes import parse_classes
from tadp_ray.config.vocabulary import METRIC
from tadp_ray.errors import UserError
from tadp_ray.layout import IMAGES
from tadp_ray.registry import TASKS, implementation
from tadp_ray.reporting.compare import find_row
from tadp_ray.reporting.results import per_image_results
from tadp_ray.reporting.table import Table
from tadp_ray.tasks.per_image import PerImage
from tadp_ray.tracking.query import CellRow, trained_cell
from tadp_ray.tracking.store import Store

if TYPE_CHECKING:
    from tadp_ray.pictures.comparison import Comparison
    from tadp_ray.tasks.base import Task


@dataclass(frozen=True)
class ComparedRuns:
    """Two runs of one seed, which scored the same images."""

    names: tuple[str, str]
    """The row, and the row that it is compared with."""
    column: str
    seed: int
    runs: tuple[str, str]
    images: tuple[PerImage, PerImage]

    @property
    def scores(self) -> np.ndarray:
        """The score (2, N) of every image, higher is better."""
        return np.stack([own.image_scores for own in self.images])

    def captions(self, number: int) -> tuple[str, str]:
        """Return both prompts of an image."""
        first, second = (str(own.images[number].get("prompt", "")) for own in self.images)
        return first, second


def compared_runs(
    store: Store, table: Table, done: Mapping[str, CellRow], row: str, against: str, column: str | None
) -> ComparedRuns:
    """Return the runs of two rows' first common seed, with their results by image.

    Raises:
        UserError: a row or column does not exist, the rows share no finished seed, or scored other images or classes.
    """
    spec, j = table.spec, scored_column(table, column)
    places = find_row(spec.rows, row, "--row"), find_row(spec.rows, against)
    if places[0] == places[1]:
        raise UserError(f"--against {against}: the same row as --row {row}; name another")
    first, second = (table.entries[i][j] for i in places)
    shared = sorted(set(first.seeds) & set(second.seeds))
    if not shared:
        raise UserError(f"--row {row}, --against {against}: no seed of both is finished; run the sweep first")
    runs = tuple(entry.run_ids[entry.seeds.index(shared[0])] for entry in (first, second))
    images = per_image_results(store, {fp: own for fp, own in done.items() if own.run_id in runs})
    if lacking := [run for run in runs if run not in images]:
        raise UserError(f"run {lacking[0]}: MLflow holds no results by image of it; train the cell anew")
    pair = images[runs[0]], images[runs[1]]
    if (pair[0].ids, pair[0].classes) != (pair[1].ids, pair[1].classes):
        raise UserError(
            f"--row {row}, --against {against}: scored on other images or other classes, so they cannot be compared"
        )
    names = spec.rows.headings[places[0]], spec.rows.headings[places[1]]
    return ComparedRuns(names, spec.columns.headings[j], shared[0], (runs[0], runs[1]), pair)


def scored_column(table: Table, column: str | None) -> int:
    """Return the index of a column whose metric is an image's score; None means the only one.

    Raises:
        UserError: there is no such column.
    """
    spec = table.spec
    # Images are scored by the main metric alone, whose column a table with several metrics need not be asked for.
    mains = {entry.main for entry in TASKS.values()}
    scored = [
        j for j in range(len(spec.columns.names)) if METRIC not in spec.columns.keys or spec.metric_at(0, j) in mains
    ]
    if not scored:
        raise UserError(
            "images have a score of the main metric alone, and this table has no column of it; compare rows of another experiment"
        )
    headings = "; ".join(spec.columns.headings[j] for j in scored)
    if column is None and len(scored) > 1:
        raise UserError(f"--column: choose one of {headings}")
    j = scored[0] if column is None else find_row(spec.columns, column, "--column")
    if j not in scored:
        raise UserError(f"--column {column}: images have no score of this metric each; choose one of {headings}")
    metric = spec.metric_at(0, j)
    if metric.startswith("best_") or metric.partition("/")[0] in mains - {metric}:
        raise UserError(
            f"{metric}: results by image are of the main evaluation at the last step alone; compare rows of a table of another "
            "metric"
        )
    return j


def write_gains(
    store: Store, pair: ComparedRuns, out: Path, count: int, storage: Path, device: str | None
) -> tuple[dict[str, Any], list[Path]]:
    """Draw the images that gain and lose most, at most `count` of each, into a folder.

    Returns: the question, the settings and the numbers of the comparison over all images, and the files.

    Raises:
        UserError: no image is scored differently, the weights are missing, or the rows scored other images.
    """
    # It imports torch, which takes longer than to find that rows cannot be compared.
    from tadp_ray.pictures.panels import write_comparison

    # Of this call alone: a folder that was used before holds other images.
    with tempfile.TemporaryDirectory() as work:
        comparison = predicted(store, pair, Path(work), count, storage, device)
        _, files = write_comparison(comparison, out, count)
    return facts_of(pair, comparison.score.meaning), files


def predicted(
    store: Store, pair: ComparedRuns, work: Path, count: int, storage: Path, device: str | None
) -> "Comparison":
    """Return the comparison of the images that gain and lose most, predicted anew by both runs into an empty folder."""
    from tadp_ray.data.datasets import Datasets
    from tadp_ray.pictures.choose import choose
    from tadp_ray.tasks.build import task_of
    from tadp_ray.training.predict import file_names, predict_run
    from tadp_ray.training.setup import Cache

    numbers = [own.number for better in ("better", "worse") for own in choose(pair.scores, better, count)]
    if not numbers:
        raise UserError(f"{' and '.join(pair.names)}: no image is scored differently")
    ids = [pair.images[0].ids[number] for number in numbers]
    trained = [trained_cell(store, run) for run in pair.runs]
    # Images of other contents may have the same ids.
    if len({cell.digests["val"] for cell, _ in trained}) > 1:
        raise UserError(f"{' and '.join(pair.names)}: scored on other images, so they cannot be compared")
    cache, folders = Cache(Datasets(storage.absolute())), [work / "row", work / "against"]
    for run, (cell, weights), folder in zip(pair.runs, trained, folders, strict=True):
        predict_run(run, cell, weights, folder, storage, cache, only=ids, device=device)
    task = task_of(trained[-1][0].recipe)
    return compared(pair, task, folders, dict(zip(file_names(ids), numbers, strict=True)))


def compared(pair: ComparedRuns, task: "Task", folders: Sequence[Path], numbers: Mapping[str, int]) -> "Comparison":
    """Return the task's comparison of two folders of predictions, with MLflow's scores and the captions of its images.

    Args:
        pair: the runs.
        task: of the second run.
        folders: of their predictions, see `predict_cell`.
        numbers: index of each image by the name of its files.
    """
    picture = implementation(TASKS[pair.images[0].task].picture)
    if picture is None or task.score_options is None:
        raise UserError(
            f"{pair.images[0].task}: its predictions cannot be drawn side by side; register the task with picture, and set its "
            "score_options"
        )
    written = [task.score_options(folder) for folder in folders]
    systems = {name: own.pop("predictions") for name, own in zip(pair.names, written, strict=True)}
    options = written[-1]
    if "classes" in options:
        options["classes"] = parse_classes(str(options["classes"]))
    comparison = picture(systems=systems, images=folders[-1] / IMAGES, **options)
    # The scores that chose the images: boxes of classes without an object in these images count in them alone.
    scores = pair.scores[:, [numbers[name] for name in comparison.ids]]
    captions = {name: pair.captions(number) for name, number in numbers.items()}
    return replace(comparison, captions=captions, scores=scores)


def facts_of(pair: ComparedRuns, meaning: str) -> dict[str, Any]:
    """Return the question, the settings and the numbers of a comparison over all images."""
    first, second = pair.names
    gaps = pair.scores[0] - pair.scores[1]
    # An image without an object has no score unless something is found in it.
    unscored = int(np.isnan(gaps).sum())
    return {
        "question": f"In which images is {first} better than {second}, and in which worse?",
        "settings": f"{pair.column}, seed {pair.seed}; score of an image: {meaning}",
        "numbers": {
            "images": len(gaps),
            f"images better with {first}": int((gaps > 0).sum()),
            f"images worse with {first}": int((gaps < 0).sum()),
            "mean difference of an image": float(np.nanmean(gaps)),
            **({"images without a score of both, left out": unscored} if unscored else {}),
        },
        "notes": ["One seed: what differs in an image may be chance."],
    }
