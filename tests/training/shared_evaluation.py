"""Latents and metrics of untrained cells, shared by however many processes torchrun starts."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from tadp_ray.config.cell import Cell
from tadp_ray.processes import collect
from tadp_ray.training import latents
from tadp_ray.training.checkpoint import checksum
from tadp_ray.training.distributed import ProcessGroup
from tadp_ray.training.evaluate import evaluate, per_image_records
from tadp_ray.training.run import build_model
from tadp_ray.training.setup import Cache, TrainSetup

CPU = torch.device("cpu")
cache, encoded, view_latents = Cache(), [], latents.view_latents


def noted(setup: TrainSetup, model: torch.nn.Module, device: torch.device, indices: Sequence[int]) -> dict[str, Tensor]:
    encoded.extend(indices)
    return view_latents(setup, model, device, indices)


def result(cell: Cell, world: ProcessGroup) -> dict[str, Any]:
    encoded.clear()
    setup = TrainSetup(cell.recipe, cell.seed, cache=cache)
    torch.manual_seed(0)
    model = build_model(setup, CPU)
    views = latents.evaluation_latents(cell.digests, setup, model, CPU, world)
    score = evaluate(model, setup, views, CPU, world)
    return {
        "encoded": collect([list(encoded)]),
        "latents": checksum(views, ""),
        "metrics": score.compute(),
        "others": [evaluate(model, other, views, CPU, world).compute() for other in setup.other_captions.values()],
        "images": list(per_image_records(setup, score)),
    }


def main(*cells: Path, output: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    world = ProcessGroup.current()
    latents.PER_FILE, latents.view_latents = 2, noted
    found = [result(Cell.model_validate_json(file.read_text()).at(output.with_suffix("")), world) for file in cells]
    if world.is_main_process:
        output.write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    *files, last = map(Path, sys.argv[1:])
    main(*files, output=last)
