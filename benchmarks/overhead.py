"""What does orchestration cost? The same cells by plain Python processes and by the sweep, timed in one run.

    python benchmarks/overhead.py experiments/prec_recall.yaml
    python benchmarks/overhead.py experiments/prec_recall.yaml --workers 1

Prints, for each way, wall time, the ratio to the plain processes, where the starting seconds of the sweep go, the time of
a second run, and the peak memory of a cell. Needs an otherwise idle machine; writes into a temporary folder.
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

from tadp_ray.config.cell import Cell
from tadp_ray.sweep.cluster import concurrency
from tadp_ray.sweep.plan import make_plan
from tadp_ray.training.reporter import final_metrics, read_journal


def train_plainly(cell: str) -> None:
    """One cell in a plain process, which stays warm for the next one."""
    import torch

    from tadp_ray.training.run import train_cell

    train_cell(Cell.model_validate_json(cell), torch.device("cpu"))


def by_processes(cells: Sequence[Cell], at_once: int) -> float:
    """Seconds of wall time with `at_once` plain processes, their starts included."""
    began = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(at_once) as pool:
        pool.map(train_plainly, [cell.model_dump_json() for cell in cells], chunksize=1)
    return time.monotonic() - began


def by_sweep(file: Path, storage: Path, flags: Sequence[str]) -> float:
    """Seconds of wall time of the sweep command."""
    command = [sys.executable, "-m", "tadp_ray.sweep", str(file), "--set", f"compute.storage={storage}", *flags]
    began = time.monotonic()
    subprocess.run(
        [*command, "--tracking-uri", f"sqlite:///{storage}/mlflow.db"], check=True, stdout=subprocess.DEVNULL
    )
    return time.monotonic() - began


def cells_of(file: Path, storage: Path, flags: Sequence[str]) -> tuple[Cell, ...]:
    """The cells that the sweep would train into a storage folder."""
    changes = [flag for flag in flags if flag != "--set"]
    return make_plan(file, "pocket", overrides=[*changes, f"compute.storage={storage}"]).cells


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", type=Path)
    parser.add_argument("--workers", type=int, default=0, help="compute.workers of the sweep")
    parser.add_argument("--set", action="append", default=[], help="key=value, as for the sweep")
    asked = parser.parse_args()
    flags = [word for change in (*asked.set, f"compute.workers={asked.workers}") for word in ("--set", change)]
    with tempfile.TemporaryDirectory() as folder:
        plain = cells_of(asked.experiment, Path(folder) / "plain", flags)
        swept = cells_of(asked.experiment, Path(folder) / "sweep", flags)
        at_once = concurrency([{"CPU": os.cpu_count() or 1}], plain[0].recipe.compute)
        print(f"{len(plain)} cells, {at_once} at once, workers: {asked.workers}", flush=True)
        plainly = by_processes(plain, at_once)
        print(f"plain processes  {plainly:7.1f} s", flush=True)
        (Path(folder) / "sweep").mkdir()
        began = time.time()
        sweeping = by_sweep(asked.experiment, Path(folder) / "sweep", flags)
        print(f"sweep            {sweeping:7.1f} s   ratio {sweeping / plainly:.3f}")
        before, warm, between = starts(swept, began, at_once)
        print(f"  {before:.1f} s until the first cell starts (imports, plan, MLflow's new database, Ray)")
        print(f"  {warm:.1f} s from a cell's start to its first step (model, data, latents), median")
        print(f"  {between:.1f} s between two cells, median")
        again = by_sweep(asked.experiment, Path(folder) / "sweep", flags)
        print(f"second run       {again:7.1f} s")
        metrics = [final_metrics(cell.folder) or {} for cell in swept]
        print(f"longest cell     {max(m['seconds'] for m in metrics):7.1f} s")
        print(f"peak memory      {max(m['peak_memory_gib'] for m in metrics):7.2f} GiB")
        same = all((final_metrics(p.folder) or {})["miou"] == m["miou"] for p, m in zip(plain, metrics, strict=True))
        print(f"same numbers     {'yes' if same else 'NO'}")


if __name__ == "__main__":
    main()
