"""What grows with the number of cells, images and runs? CPU seconds and counts of each at several sizes.

    python benchmarks/growth.py
    python benchmarks/growth.py planning table --sizes 90 900
    python benchmarks/growth.py data --images 22210

Trains nothing and starts no Ray. MLflow's store is simulated: one run is recorded as a sweep does it, and its rows are copied
in the database. The data set is of ADE20K's layout with images of 8 pixels, so that operations on files count and pixels do
not. Writes into a temporary folder.
"""

import argparse
import io
import json
import math
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, redirect_stdout
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from tadp_ray import files
from tadp_ray.cli.common import say
from tadp_ray.config.cell import Cell
from tadp_ray.config.data import PublishedData
from tadp_ray.data.datasets import Datasets
from tadp_ray.layout import PER_IMAGE
from tadp_ray.reporting.compare import compare
from tadp_ray.reporting.report import gather
from tadp_ray.reporting.report_files import write_report
from tadp_ray.reporting.results import fill_table
from tadp_ray.reporting.table import build_table
from tadp_ray.sweep.choices import Choices
from tadp_ray.sweep.plan import ExperimentPlan
from tadp_ray.sweep.planning import plan_file
from tadp_ray.sweep.preview import preview
from tadp_ray.tasks.per_image import PerImage, write_per_image
from tadp_ray.tracking.query import CellRow, finished, rows
from tadp_ray.tracking.run_spec import cell_run_spec
from tadp_ray.tracking.sender import replay
from tadp_ray.tracking.store import Store, open_store
from tadp_ray.tracking.sweep_run import parent, record_plan
from tadp_ray.training.reporter import Journal

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "experiments/recipes/pocket_segmentation.yaml"
CURVE = 4
"""Evaluations of a simulated training."""
EXPERIMENTS = 10
"""Of the simulated store whose report is written."""
T = TypeVar("T")


def measure(work: Callable[[], T]) -> tuple[float, T]:
    """Return the CPU seconds of some work, and what it returns."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def write_experiment(
    folder: Path, name: str, cells: int, seeds: int = 1, *, first_seed: int = 0, long: bool = False
) -> Path:
    """Write an experiment of the pocket recipe with so many cells, in one column if `long`; return its file."""
    points = cells // seeds
    rows = points if long else next(n for n in range(math.isqrt(points), 0, -1) if points % n == 0)
    folder.mkdir(parents=True, exist_ok=True)
    axes = {
        "caption.precision": [round(0.3 + 0.7 * (i + 1) / rows, 6) for i in range(rows)],
        "caption.recall": [round(0.3 + 0.7 * (j + 1) * rows / points, 6) for j in range(points // rows)],
    }
    (folder / "sweeps").mkdir(exist_ok=True)
    (folder / "sweeps" / f"{name}.yaml").write_text(json.dumps({"axes": axes}))
    experiment = {
        "question": "How much does it grow?",
        "recipes": {"pocket": str(RECIPE)},
        "sweep": f"sweeps/{name}.yaml",
        "seeds": list(range(first_seed, first_seed + seeds)),
        "table": {"title": name, "rows": ["caption.precision"], "columns": ["caption.recall"]},
    }
    (folder / f"{name}.yaml").write_text(json.dumps(experiment))
    return folder / f"{name}.yaml"


def plan_of(
    folder: Path, name: str, cells: int, seeds: int = 1, *, first_seed: int = 0, long: bool = False
) -> ExperimentPlan:
    """Return the plan of an experiment of so many cells."""
    file = write_experiment(folder, name, cells, seeds, first_seed=first_seed, long=long)
    return plan_file(file, "pocket", None, Choices(overrides=[f"compute.storage={folder}/runs"]))


def metrics_of(number: int) -> dict[str, float]:
    """Return the final metrics of a simulated training."""
    classes = {f"iou/{index}": float(index) for index in range(54)}
    return {"miou": 20 + number % 977 / 20, "seconds": 75.0, "seconds_per_step": 0.2, "loss": 0.5, **classes}


def record(store: Store, run: str, cell: Cell) -> str:
    """Record one training as a sweep does; return the id of its run."""
    cell.folder.mkdir(parents=True, exist_ok=True)
    with Journal(cell.folder, cell.fingerprint) as journal:
        for step in range(1, CURVE + 1):
            journal.report(step, {"miou": 10.0 * step, "loss": 1 / step})
        write_per_image(cell.folder / PER_IMAGE, cell.fingerprint, "segmentation", ("a", "b"), images_of(0))
        journal.finish(CURVE, metrics_of(0))
    replay(store, cell_run_spec(run, cell))
    return finished(store, [cell.fingerprint])[cell.fingerprint].run_id


def images_of(number: int, count: int = 20) -> Iterator[dict[str, Any]]:
    """Yield per-image results."""
    rng = np.random.default_rng(number)
    for index in range(count):
        right, wrong = (rng.integers(10, 100, 2).tolist() for _ in range(2))
        union = [a + b for a, b in zip(right, wrong, strict=True)]
        yield {
            "id": f"{index}",
            "prompt": "a b",
            "precision": 1.0,
            "recall": 1.0,
            "pixels": 4096,
            "classes": [0, 1],
            "intersection": right,
            "union": union,
            "truth": union,
        }


def copy_runs(store: Store, run_id: str, cells: Sequence[Cell]) -> None:
    """Copy a run's rows in the database for each of the cells, with the tags and the metrics of its own."""
    with closing(sqlite3.connect(store.database)) as database, database:
        for table in ("runs", "params", "tags", "metrics", "latest_metrics"):
            names = [column[1] for column in database.execute(f"pragma table_info({table})")]
            found = database.execute(f"select * from {table} where run_uuid = ?", [run_id]).fetchall()  # noqa: S608
            marks = ", ".join("?" * len(names))
            rows = (
                tuple(copied(table, dict(zip(names, row, strict=True)), number, cell).values())
                for number, cell in enumerate(cells, 1)
                for row in found
            )
            database.executemany(f"insert into {table} values ({marks})", rows)  # noqa: S608


def copied(table: str, row: dict[str, Any], number: int, cell: Cell) -> dict[str, Any]:
    """Return a row of the recorded run as one of another cell's run."""
    row["run_uuid"] = cell.fingerprint[:32]
    if table == "tags":
        tags = cell_run_spec("0" * 32, cell).tags | {"tadp.fingerprint": cell.fingerprint}
        row["value"] = tags.get(row["key"], row["value"])
    if row.get("key") in ("miou", "best_miou") and row.get("step") == CURVE:
        row["value"] = metrics_of(number)["miou"]
    return row


def simulated_store(folder: Path, plans: Sequence[ExperimentPlan]) -> Store:
    """Return a store in which every cell of the plans is finished."""
    folder.mkdir(parents=True, exist_ok=True)
    store = open_store(f"sqlite:///{folder}/mlflow.db")
    for plan in plans:
        run = parent(store, plan.name, plan.scale, plan.key)
        record_plan(store, run, plan.settings, plan.cells)
        copy_runs(store, record(store, run, plan.cells[0]), plan.cells[1:])
    return store


def row_of(number: int, cell: Cell) -> CellRow:
    """Return a finished cell's run in memory."""
    return CellRow(
        run_id=cell.fingerprint[:32],
        fingerprint=cell.fingerprint,
        experiment=cell.experiment,
        scale=cell.scale,
        axes=dict(cell.axes),
        seed=cell.seed,
        metrics=metrics_of(number),
        status="FINISHED",
        error=None,
        commit=None,
        code={},
        start_time=0.0,
        end_time=1.0,
        params={},
        hardware="",
    )


def show(what: str, count: int, seconds: float, unit: str) -> None:
    """Print one line of the table."""
    print(f"{what:<52}{count:>8}{seconds:>10.3f}{1000 * seconds / count:>10.3f} ms a {unit}", flush=True)


def planning(folder: Path, sizes: Sequence[int]) -> None:
    """Plan experiments of many points, and of nine points with many seeds."""
    plan_of(folder / "first", "first", 9)  # imports, and the hashes of weights
    for size in sizes:
        for what, seeds in (("points", 1), ("seeds", size // 9)):
            seconds, plan = measure(lambda what=what, seeds=seeds, size=size: plan_of(folder / what, what, size, seeds))
            hashing, _ = measure(lambda plan=plan: [cell.fingerprint for cell in plan.cells])
            show(f"planning, {what}", len(plan.cells), seconds + hashing, "cell")


def check(folder: Path, sizes: Sequence[int]) -> None:
    """Check the cells of a plan before training."""
    first = plan_of(folder / "first", "first", 9)
    first.check(first.cells[:1])  # imports, and the weights
    for size in sizes:
        for what, seeds in (("points", 1), ("seeds", size // 9)):
            plan = plan_of(folder / what, what, size, seeds)
            seconds, _ = measure(lambda plan=plan: plan.check(plan.cells))
            show(f"check before training, {what}", size, seconds, "cell")


def dry_run(folder: Path, sizes: Sequence[int]) -> None:
    """Do what `sweep --dry-run` does without a store, but start no Ray; the first line includes imports."""
    for size in sizes:
        file = write_experiment(folder / str(size), "plan", size, size // 9)

        def preview_all(file: Path = file) -> None:
            plan = plan_file(file, "pocket", None, Choices(overrides=[f"compute.storage={file.parent}/runs"]))
            plan.warn()
            plan.check(plan.missing({}))
            for line in preview(plan, {}, [], 2).lines():
                say(line)

        with redirect_stdout(io.StringIO()) as said:
            seconds, _ = measure(preview_all)
        assert f"{size} to train" in said.getvalue()
        show("dry run, nine points with seeds", size, seconds, "cell")
    print(f"{time.process_time():.1f} CPU seconds of this process with imports")


def states(folder: Path, sizes: Sequence[int]) -> None:
    """Find the finished cells of plans in a store that holds them, and the rows of their experiment."""
    for size in sizes:
        plan = plan_of(folder / str(size), "plan", size)
        store = simulated_store(folder / str(size), [plan])
        prints = [cell.fingerprint for cell in plan.cells]
        seconds, found = measure(lambda store=store, prints=prints: finished(store, prints))
        assert len(found) == size
        show("finished cells, all of a store", size, seconds, "cell")
        few, _ = measure(lambda store=store, prints=prints: finished(store, prints[:9]))
        show(f"finished cells, nine in a store of {size}", 9, few, "cell")
        unknown = [f"{number:064x}" for number in range(size)]
        missing, _ = measure(lambda store=store, unknown=unknown: finished(store, unknown))
        show("finished cells, none of a store", size, missing, "cell")
        filled, _ = measure(lambda store=store, plan=plan: fill_table(store, plan.table, plan.cells))
        show("table from the store", size, filled, "cell")
        seconds, _ = measure(lambda store=store, plan=plan: rows(store, plan.name))
        show("rows of an experiment", size, seconds, "cell")


def table(folder: Path, sizes: Sequence[int]) -> None:
    """Build tables from rows in memory, and compare their rows."""
    for size in sizes:
        for what, seeds in (("points", 1), ("seeds", size // 9), ("one column", 1)):
            plan = plan_of(folder / what, what, size, seeds, long=what == "one column")
            done = {cell.fingerprint: row_of(number, cell) for number, cell in enumerate(plan.cells)}
            seconds, built = measure(lambda plan=plan, done=done: build_table(plan.table, plan.cells, done))
            show(f"table, {what}", size, seconds, "cell")
            images = {row.run_id: per_image(number) for number, row in enumerate(done.values())}
            name = plan.table.rows.names[-1]
            seconds, _ = measure(lambda built=built, name=name, images=images: compare(built, name, images))
            show(f"differences to a row, {what}", size, seconds, "cell")


def per_image(number: int) -> PerImage:
    """Return per-image results in memory."""
    from tadp_ray.tasks.per_image import images_class

    return images_class("segmentation")("segmentation", ("a", "b"), tuple(images_of(number)))


def data(folder: Path, images: Sequence[int]) -> None:
    """Open a data set of ADE20K's layout, and again as another process does; hash it each time."""
    for count in images:
        root = folder / f"ade{count}"
        write_ade20k(root, count)
        config = PublishedData(kind="ade20k", root=root)
        for what in ("first", "again"):
            cache = Datasets(folder / "runs")
            # Of another process: this one remembers the hashes of files.
            files._digests.clear()
            seconds, split = measure(lambda cache=cache, config=config: cache.open(config, "train"))
            hashing, _ = measure(lambda split=split: split.digest())
            show(f"opening a data set, {what}", count, seconds, "image")
            show(f"its hash, {what}", count, hashing, "image")
        shutil.rmtree(root)


def write_ade20k(root: Path, count: int) -> None:
    """Write so many training images of 8 pixels in ADE20K's layout."""
    for name, mode, ending in (("images", "RGB", "jpg"), ("annotations", "L", "png")):
        folder = root / name / "training"
        folder.mkdir(parents=True)
        (root / name / "validation").mkdir()
        file = folder / f"ADE_train_{1:08d}.{ending}"
        Image.new(mode, (8, 8), 3 if mode == "L" else "teal").save(file)
        content = file.read_bytes()
        for number in range(2, count + 1):
            copy = folder / f"ADE_train_{number:08d}.{ending}"
            copy.write_bytes(content)
            # Files that have just been written do not enter the index.
            os.utime(copy, (0, 0))
        os.utime(file, (0, 0))


def report(folder: Path, sizes: Sequence[int]) -> None:
    """Write the report of stores of `EXPERIMENTS` experiments."""
    for size in sizes:
        experiments, count = folder / str(size) / "experiments", size // EXPERIMENTS
        plans = [plan_of(experiments, f"experiment_{seed}", count, first_seed=seed) for seed in range(EXPERIMENTS)]
        store = simulated_store(folder / str(size), plans)
        page = folder / str(size) / "report"
        seconds, chapters = measure(lambda store=store, page=page, files=experiments: gather(store, files, page))
        show(f"report of {EXPERIMENTS} experiments: gathering", size, seconds, "run")
        seconds, _ = measure(lambda chapters=chapters, page=page: write_report(chapters, "growth", page))
        show(f"report of {EXPERIMENTS} experiments: writing", size, seconds, "run")


SECTIONS = {
    "planning": planning,
    "check": check,
    "dry_run": dry_run,
    "states": states,
    "table": table,
    "data": data,
    "report": report,
}


def main() -> None:
    """Measure the sections that are asked for, and print a line for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", choices=[[], *SECTIONS], help="all without any")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[90, 900], help="cells, multiples of 9; runs of a store"
    )
    parser.add_argument("--images", type=int, nargs="+", default=[2000, 22210], help="of a data set")
    asked = parser.parse_args()
    print(f"{'':<52}{'count':>8}{'CPU s':>10}")
    with tempfile.TemporaryDirectory() as folder:
        for name in asked.sections or SECTIONS:
            SECTIONS[name](Path(folder) / name, asked.images if name == "data" else asked.sizes)


if __name__ == "__main__":
    main()
