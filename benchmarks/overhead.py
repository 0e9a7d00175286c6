"""What does orchestration cost? The same cells by plain Python processes and by the sweep, timed in one run.

    python benchmarks/overhead.py experiments/prec_recall.yaml
    python benchmarks/overhead.py experiments/prec_recall.yaml --workers 0 1

Prints the wall time of the plain processes, and for the sweep with each number of Ray Train workers its wall time, the
ratio, where its starting seconds go, the time of a second run, the longest cell, how long steps wait for checkpoints, what
telling MLflow takes, and the peak memory of a cell. Prints what is read from disk at each cell's start, too: the plain
processes find weights that the machine does not hold in memory. Needs an otherwise idle machine; writes into a temporary
folder.
"""

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tadp_ray.backbones.latent.weights import locate
from tadp_ray.config.cell import Cell
from tadp_ray.sweep.choices import Choices
from tadp_ray.sweep.cluster import concurrency
from tadp_ray.sweep.planning import plan_file
from tadp_ray.tracking.journal_run import JournalRun
from tadp_ray.tracking.run_spec import cell_run_spec
from tadp_ray.tracking.store import open_store
from tadp_ray.tracking.sweep_run import parent
from tadp_ray.training.journal import final_metrics, read_journal
from tadp_ray.training.reporter import Journal

PERIOD = 5.0
"""Seconds between two rounds of the sweep's sender."""


def train_plainly(cell: str) -> None:
    """One cell in a plain process, which stays warm for the next one."""
    import torch

    from tadp_ray.training.run import train_cell

    train_cell(Cell.model_validate_json(cell), torch.device("cpu"))


def by_processes(cells: Sequence[Cell], at_once: int) -> float:
    """Seconds of wall time with `at_once` plain processes, their starts included."""
    forget(cells[0].recipe.model.weights)
    began = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(at_once) as pool:
        pool.map(train_plainly, [cell.model_dump_json() for cell in cells], chunksize=1)
    return time.monotonic() - began


def forget(weights: str) -> None:
    """Have the machine drop weights from its memory, as if it had never read them."""
    path = locate(weights)
    for file in [path] if path.is_file() else path.rglob("*.safetensors"):
        descriptor = os.open(file, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def start_reads(cells: Sequence[Cell]) -> str:
    """`15.2, 0.0, ... MiB`: what each cell's process had read from disk before its first step, in order of starts."""
    by_start = sorted(cells, key=lambda cell: next(read_journal(cell.folder))["time"])
    return (
        ", ".join(f"{final_metrics(cell.folder, cell.fingerprint)['start_read_mib']:.1f}" for cell in by_start) + " MiB"
    )


def by_sweep(file: Path, storage: Path, changes: Sequence[str]) -> float:
    """Seconds of wall time of the sweep command."""
    command = [sys.executable, "-m", "tadp_ray.sweep", str(file), "--tracking-uri", f"sqlite:///{storage}/mlflow.db"]
    flags = [word for change in (*changes, f"compute.storage={storage}") for word in ("--set", change)]
    began = time.monotonic()
    subprocess.run([*command, *flags], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def cells_of(file: Path, storage: Path, changes: Sequence[str]) -> tuple[Cell, ...]:
    """The cells that the sweep would train into a storage folder."""
    choices = Choices(overrides=[*changes, f"compute.storage={storage}"])
    return plan_file(file, "pocket", None, choices).cells


def starts(cells: Sequence[Cell], began: float, at_once: int) -> tuple[float, float, float]:
    """Seconds until the first cell starts, from a cell's start to its first step (median), and between cells (median)."""
    spans = []
    for cell in cells:
        records = list(read_journal(cell.folder))
        first = next(record for record in records if "seconds_per_step" in record.get("metrics", {}))
        step = first["time"] - first["step"] * first["metrics"]["seconds_per_step"]
        spans.append((records[0]["time"], step, records[-1]["time"]))
    spans.sort()
    ends = sorted(end for _, _, end in spans)
    gaps = [start - end for (start, _, _), end in zip(spans[at_once:], ends, strict=False)]
    warm = statistics.median(step - start for start, step, _ in spans)
    return spans[0][0] - began, warm, statistics.median(gaps) if gaps else 0.0


def telling(cells: Sequence[Cell], folder: Path) -> tuple[float, float]:
    """The shares of the cells' time that go into journals (steps wait), and into sending them to MLflow (a core of the driver).

    Every journal is written again, and shipped after each `PERIOD` seconds of it, as the sweep's sender does.
    """
    store = open_store(f"sqlite:///{folder}/again.db")
    sweep = parent(store, "again", "pocket", "key")
    writing = sending = 0.0
    for cell in (cell.at(folder / "again") for cell in cells):
        shipped, run = 0.0, JournalRun(store, cell_run_spec(sweep, cell))
        with Journal(cell.folder, cell.fingerprint) as journal:
            for record in read_journal(cell.at(folder).folder):
                began = time.monotonic()
                journal.report(record.get("step", 0), record.get("metrics", {}))
                writing += time.monotonic() - began
                if record["time"] > shipped + PERIOD or record["type"] == "finished":
                    began, shipped = time.process_time(), record["time"]
                    run.sync()
                    sending += time.process_time() - began
    whole = sum(final_metrics(cell.folder, cell.fingerprint)["seconds"] for cell in cells)
    return writing / whole, sending / whole


def report(file: Path, folder: Path, changes: Sequence[str], at_once: int, plainly: float) -> list[float]:
    """Run and measure one sweep into a new folder, print its figures, and return the mIoU of its cells."""
    folder.mkdir()
    cells = cells_of(file, folder, changes)
    began = time.time()
    seconds = by_sweep(file, folder, changes)
    print(f"sweep, {changes[-1]}  {seconds:7.1f} s   ratio {seconds / plainly:.3f}")
    before, warm, between = starts(cells, began, at_once)
    print(f"  {before:.1f} s until the first cell starts (imports, plan, MLflow's new database, Ray)")
    print(f"  {warm:.1f} s from a cell's start to its first step (model, data, latents), median")
    print(f"  {between:.1f} s between two cells, median")
    print(f"  {by_sweep(file, folder, changes):.1f} s for a second run")
    metrics = [final_metrics(cell.folder, cell.fingerprint) for cell in cells]
    print(f"  {max(m['seconds'] for m in metrics):.1f} s for the longest cell")
    print(f"  {start_reads(cells)} read from disk at the starts of the cells, one after the other")
    stall = max(m["checkpoint_seconds"] / m["seconds"] for m in metrics)
    print(f"  {100 * stall:.2f} % of a cell's time its steps wait for checkpoints, at most")
    writing, sending = telling(cells, folder)
    print(f"  {100 * writing:.2f} % of the cells' time for journals, {100 * sending:.2f} % of a core for sending them")
    print(f"  {max(m['peak_memory_gib'] for m in metrics):.2f} GiB at most in a cell's process", flush=True)
    return [m["miou"] for m in metrics]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", type=Path)
    parser.add_argument(
        "--workers", type=int, nargs="+", default=[0], help="values of compute.num_train_workers to measure"
    )
    parser.add_argument("--set", action="append", default=[], help="key=value, as for the sweep")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        plain = cells_of(asked.experiment, Path(folder) / "plain", asked.set)
        at_once = concurrency([{"CPU": os.cpu_count() or 1}], plain[0].recipe.compute)
        print(f"{len(plain)} cells, {at_once} at once", flush=True)
        plainly = by_processes(plain, at_once)
        print(f"plain processes  {plainly:7.1f} s", flush=True)
        print(f"  {start_reads(plain)} read from disk at the starts of the cells, one after the other", flush=True)
        for workers in asked.workers:
            changes = [*asked.set, f"compute.num_train_workers={workers}"]
            swept = report(asked.experiment, Path(folder) / f"workers{workers}", changes, at_once, plainly)
            same = swept == [final_metrics(cell.folder, cell.fingerprint)["miou"] for cell in plain]
            print(f"  the same mIoU in every digit: {'yes' if same else 'NO'}", flush=True)


if __name__ == "__main__":
    main()
