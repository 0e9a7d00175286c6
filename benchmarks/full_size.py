"""How long a training step of the full Stable Diffusion 1.5 takes, and what memory it needs; its weights are random.

    python benchmarks/full_size.py --crop 256 --recompute                   # a CPU of 24 GiB
    python benchmarks/full_size.py --crop 512 --batch 8 --device cuda       # a GPU: float32, tf32, bfloat16, compiled or not

Prints, for each setting, seconds a step, images a second, peak memory, and the share of the matrix peak that was measured
on the same device and in the same precision.
"""

import argparse
import resource
import time
from collections.abc import Callable

import torch

from tadp_ray.backbones.stable_diffusion.backbone import StableDiffusionBackbone
from tadp_ray.backbones.stable_diffusion.build import stable_diffusion_15
from tadp_ray.backbones.stable_diffusion.load import Diffusion, frozen
from tadp_ray.config.model import MODELS
from tadp_ray.config.schema import Recipe
from tadp_ray.tasks.registry import task_of
from tadp_ray.tasks.segmentation.config import SemanticFPNConfig
from tadp_ray.training.cost import step_cost
from tadp_ray.training.gpu import matrix_peak
from tadp_ray.training.model import TADP
from tadp_ray.training.optim import make_optimizer
from tadp_ray.training.precision import autocast

CLASSES, TOKENS, WIDTH = 150, 77, 768
SETTINGS = {"cpu": ("float32", "bfloat16"), "cuda": ("float32", "tf32", "bfloat16")}


def random_weights(device: str) -> Diffusion:
    """Stable Diffusion 1.5 with random numbers for weights."""
    blank = stable_diffusion_15()
    torch.manual_seed(0)
    networks = []
    for network in (blank.vae, blank.unet):
        made = network.to_empty(device=device)
        for parameter in made.parameters():
            torch.nn.init.normal_(parameter, std=0.02)
        networks.append(made)
    return Diffusion(frozen(networks[0]), networks[1], blank.text_encoder, None)


def timed(work: Callable[[], object], device: str, count: int) -> float:
    """Seconds of one call, the fastest of several behind a first one."""
    spent = []
    for _ in range(count + 1):
        began = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        spent.append(time.perf_counter() - began)
    return min(spent[1:]) if count else spent[0]


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crop", type=int, default=256, help="height and width of an image in pixels")
    parser.add_argument("--batch", type=int, default=1, help="images a step")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--steps", type=int, default=1, help="timed steps, behind a first one")
    parser.add_argument("--recompute", action="store_true", help="gradient checkpointing")
    parser.add_argument("--precisions", nargs="+", help="a part of float32, tf32 (GPU), bfloat16")
    options = parser.parse_args()

    settings = MODELS["stable_diffusion"](head=SemanticFPNConfig())
    told = {"source": "null"}
    recipe = Recipe(
        caption=told, model=settings, schedule={"iterations": 10, "learning_rate": 1e-4, "batch_size": options.batch}
    )
    view = (options.crop, options.crop)
    cost = step_cost(recipe, stable_diffusion_15(), CLASSES, TOKENS, view)
    print(f"{cost.flops / 1e12:.2f} TFLOP a step of {options.batch} images of {options.crop} pixels", flush=True)
    for precision in options.precisions or SETTINGS[options.device]:
        for compiled in (False, True)[: 1 + (options.device == "cuda")]:
            measure(options, recipe, precision, compiled, cost.flops)


def measure(options: argparse.Namespace, recipe: Recipe, precision: str, compiled: bool, flops: int) -> None:
    """Print one line about one setting."""
    device, side = options.device, options.crop // 8
    backbone = StableDiffusionBackbone(random_weights(device), recipe.model, TOKENS, (side, side))
    model = TADP(backbone, CLASSES, recipe.model).to(device).train()
    if options.recompute:
        model.backbone.enable_gradient_checkpointing()
    optimizer, _ = make_optimizer(model, recipe.schedule)
    task = task_of(recipe)
    images = torch.rand(options.batch, 3, options.crop, options.crop, device=device) * 2 - 1
    noise = torch.randn(options.batch, 4, side, side, device=device)
    context = torch.randn(options.batch, TOKENS, WIDTH, device=device)
    mask = torch.randint(CLASSES, (options.batch, options.crop, options.crop), device=device)
    forward = torch.compile(model) if compiled else model

    def step() -> None:
        with autocast(torch.device(device), precision):
            loss = task.loss(forward(model.backbone.encode_image(images).sample(noise), context), mask)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = timed(step, device, options.steps)
    if device == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**30
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    share = flops / seconds / matrix_peak(torch.device(device), precision, 8192 if device == "cuda" else 2048)
    print(
        f"{precision:<9} {'compiled' if compiled else 'as it is':<9} {seconds:8.2f} s a step {options.batch / seconds:8.2f} "
        f"images/s {peak:6.1f} GiB {100 * share:5.1f}% of the matrix peak",
        flush=True,
    )


if __name__ == "__main__":
    main()
