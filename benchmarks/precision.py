"""What does lower precision do to a training? The same cell in each precision, its loss every ten steps.

    python benchmarks/precision.py experiments/recipes/pocket_segmentation.yaml
    python benchmarks/precision.py experiments/recipes/pocket_segmentation.yaml --device cuda

Prints losses and seconds a step, and fails if a loss of a lower precision leaves the band around that of float32: 5 %. Writes
into a temporary folder.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch

from tadp_ray.sweep.planning import plan_one
from tadp_ray.training.journal import read_journal
from tadp_ray.training.run import train_cell

PRECISIONS = {"cpu": ("float32", "bfloat16"), "cuda": ("float32", "tf32", "bfloat16")}
BAND = 0.05
"""Largest difference of two losses of a step, relative to that of float32."""


def journal_of(recipe: Path, precision: str, steps: int, device: str, storage: str) -> dict[int, dict[str, float]]:
    """Loss and seconds a step by step of one training."""
    changes = [
        f"schedule.precision={precision}",
        f"schedule.iterations={steps}",
        f"schedule.warmup_iterations={steps // 5}",
        f"evaluation.interval={steps}",
        f"compute.storage={storage}",
    ]
    (cell,) = plan_one(recipe, changes, seed=0).cells
    train_cell(cell, torch.device(device))
    records = [record for record in read_journal(cell.folder) if "loss" in record.get("metrics", {})]
    return {record["step"]: record["metrics"] for record in records}


def main() -> None:
    """Train in each precision and print them side by side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--device", default="cpu", choices=PRECISIONS)
    parser.add_argument("--steps", type=int, default=50)
    asked = parser.parse_args()
    names = PRECISIONS[asked.device]
    with tempfile.TemporaryDirectory() as storage:
        journals = [journal_of(asked.recipe, name, asked.steps, asked.device, storage) for name in names]
    print(f"{'step':>5}" + "".join(f"{f'loss {name}':>16}{'s/step':>10}" for name in names))
    worst = 0.0
    for step in journals[0]:
        first, *others = (journal[step] for journal in journals)
        columns = (f"{metrics['loss']:>16.4f}{metrics['seconds_per_step']:>10.3f}" for metrics in (first, *others))
        print(f"{step:>5}" + "".join(columns))
        worst = max(worst, *(abs(metrics["loss"] / first["loss"] - 1) for metrics in others))
    print(f"largest difference {100 * worst:.2f}%, band {100 * BAND:.0f}%")
    sys.exit(worst > BAND)


if __name__ == "__main__":
    main()
