"""A training step in each precision, one compiled, one of each kind of what is trained, and a score of a fixed batch.

For however many processes of torchrun.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from tadp_ray.backbones.stable_diffusion.backbone import StableDiffusionBackbone
from tadp_ray.backbones.stable_diffusion.load import load_diffusion
from tadp_ray.config.model import MODELS
from tadp_ray.config.recipe import Recipe
from tadp_ray.tasks.build import task_of
from tadp_ray.tasks.segmentation.config import SemanticFPNConfig
from tadp_ray.training.distributed import ProcessGroup
from tadp_ray.training.model import TADP
from tadp_ray.training.precision import autocast
from tadp_ray.training.run import prepare_compilation

IMAGES, CLASSES, CHANNELS = 4, 5, 16
Loss = Callable[[Tensor], Tensor]
KINDS = ("frozen", "attention_only", "lora")
"""What is trained of the U-Net, by the names of steps; all of it in the others."""
WAYS = {"float32": "float32", "bfloat16": "bfloat16", "compiled": "float32"} | dict.fromkeys(KINDS, "float32")
"""Precisions by the names of steps."""


def main(weights: str, output: Path) -> None:
    torch.set_num_threads(1)
    # So that the tiny model has several buckets of gradients, as a large one has.
    dist._DEFAULT_FIRST_BUCKET_BYTES = 100_000
    dist.init_process_group("gloo")
    world = ProcessGroup.current()
    share = world.share(IMAGES)
    torch.manual_seed(0)
    # Means far from zero, with small spread, are hard on a variance; ignored pixels are shared out unevenly.
    images = torch.rand(IMAGES, 3, 32, 32) * torch.tensor([0.1, 0.5, 1.0, 1.9])[:, None, None, None] - 1
    noise, context = torch.randn(IMAGES, 4, 8, 8), torch.randn(IMAGES, 13, 64)
    mask = torch.randint(CLASSES, (IMAGES, 32, 32))
    mask[0, :20], mask[3, :, :5] = 255, 255
    keep = (torch.rand(IMAGES, CHANNELS) > 0.3) / 0.7

    settings = MODELS["stable_diffusion"](head=SemanticFPNConfig(channels=CHANNELS))
    task = task_of(
        Recipe(caption={"source": "null"}, model=settings, schedule={"iterations": 1, "learning_rate": 1e-3})
    )
    found, diffusion = {}, load_diffusion(weights)
    for way, precision in WAYS.items():
        torch.manual_seed(1)
        chosen = MODELS["stable_diffusion"](head=settings.head, trainable=way if way in KINDS else "full")
        model = TADP(StableDiffusionBackbone(diffusion, chosen, tokens=13), CLASSES, chosen).train()

        def loss_of_part(latents: Tensor, model: TADP = model) -> Tensor:
            return task.loss(model(latents, context[share], keep[share]), mask[share])

        if way == "compiled":
            # Traced, but not compiled, which takes a minute.
            prepare_compilation()
            graphs = CompileCounterWithBackend("eager")
            loss_of_part = torch.compile(loss_of_part, backend=graphs)

        def loss_at(number: int, model: TADP = model, precision: str = precision, last: Loss = loss_of_part) -> Tensor:
            with autocast(torch.device("cpu"), precision):
                return last(model.backbone.encode_image(images[share]).sample(noise[share]))

        loss_of = world.wrap(model, loss_at, torch.device("cpu"))
        loss = loss_of(0)
        loss.backward()
        mean_loss = loss.detach().float()
        dist.all_reduce(mean_loss)
        found |= {f"{way}.gradient.{name}": p.grad for name, p in model.named_parameters() if p.requires_grad}
        found |= {f"{way}.statistics.{name}": b for name, b in model.named_buffers() if "running" in name}
        found[f"{way}.loss"] = mean_loss / world.size

    # Scores count whole numbers, so that they are compared on random predictions, which no rounding can tip.
    metrics = task.metrics([str(index) for index in range(CLASSES)])
    metrics.accumulate(torch.randint(CLASSES, mask.shape)[share], mask[share])
    metrics.reduce()

    if world.is_main_process:
        found["compiled.graphs"] = torch.tensor(graphs.frame_count)
        found["scores"] = torch.tensor(list(metrics.compute().values()))
        save_file(found, output)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
