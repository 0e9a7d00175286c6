"""What does half precision do to a training? The same cell in float32 and in bfloat16, its loss every ten steps.

    python benchmarks/precision.py experiments/recipes/pocket_segmentation.yaml
    python benchmarks/precision.py experiments/recipes/pocket_segmentation.yaml --device cuda

Prints both losses and seconds a step; writes into a temporary folder.
"""

import argparse
import tempfile
from pathlib import Path

import torch

from tadp_ray.sweep.plan import plan_one
from tadp_ray.training.journal import read_journal
from tadp_ray.training.run import train_cell

PRECISIONS = ("float32", "bfloat16")


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
    """Train in both precisions and print them side by side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=50)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as storage:
        single, half = (journal_of(asked.recipe, p, asked.steps, asked.device, storage) for p in PRECISIONS)
    print(f"{'step':>5}{'loss float32':>14}{'bfloat16':>12}{'s/step float32':>16}{'bfloat16':>12}")
    for step, metrics in single.items():
        other = half[step]
        print(
            f"{step:>5}{metrics['loss']:>14.4f}{other['loss']:>12.4f}"
            f"{metrics['seconds_per_step']:>16.3f}{other['seconds_per_step']:>12.3f}"
        )


if __name__ == "__main__":
    main()
