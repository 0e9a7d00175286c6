"""What a training uses of its GPU: memory, images a second, and its share of the measured matrix peak."""

import time
from functools import cache

import torch

from tadp_ray.config.recipe import Recipe
from tadp_ray.training.cost import step_cost
from tadp_ray.training.latents import mirrored_views
from tadp_ray.training.precision import autocast
from tadp_ray.training.setup import TrainSetup
from tadp_ray.training.step_cost import StepCost

TRIES = 5


@cache
def matrix_peak(device: torch.device, precision: str, side: int = 8192) -> float:
    """Return the FLOP/s of a product of two square matrices, the fastest of several.

    Args:
        device: its GPU, or the CPU, is measured beside whatever else it computes.
        precision: of `schedule.precision`.
        side: of the matrices.
    """
    left, right = torch.randn(2, side, side, device=device)
    if precision == "bfloat16":
        left, right = left.bfloat16(), right.bfloat16()
    spent = []
    with autocast(device, precision):
        for _ in range(TRIES + 1):
            began = time.perf_counter()
            left @ right
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            spent.append(time.perf_counter() - began)
    return 2 * side**3 / min(spent[1:])


def gpu_metrics(setup: TrainSetup, seconds_per_step: float, device: torch.device) -> dict[str, float]:
    """Return the metrics of a GPU that has trained a cell.

    Args:
        setup: of the cell.
        seconds_per_step: of its training.
        device: the GPU, whose memory statistics were reset before the training.
    """
    recipe, peak = setup.recipe, torch.cuda.max_memory_allocated(device) / 2**30
    classes = len(setup.train.classes)
    cost = step_cost(recipe, setup.pretrained, classes, setup.prompt_tokens, setup.view, setup.encoders)
    return {
        "peak_gpu_memory_gib": peak,
        "images_per_second": cost.images / seconds_per_step,
        "matrix_peak_share": least_seconds(recipe, cost, bool(mirrored_views(setup)), device) / seconds_per_step,
    }


def least_seconds(recipe: Recipe, cost: StepCost, encoded_before: bool, device: torch.device) -> float:
    """Return the seconds that a step of all workers of a recipe takes at the matrix peak of a GPU each.

    Args:
        recipe: of the cell.
        cost: of a step.
        encoded_before: whether steps look images up that were encoded before the training.
        device: a GPU like those of the workers.
    """
    encoders = ("VAE encoder", "context encoder") * encoded_before
    flops = cost.flops - cost.images * sum(part.forward for part in cost.parts if part.name in encoders)
    return flops / recipe.compute.world_size / matrix_peak(device, recipe.schedule.precision)
