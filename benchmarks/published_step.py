"""How much faster is our training step than a plain one, written as the published code works? Same weights, same outputs.

    python benchmarks/published_step.py                                      # three sizes that two CPU cores can train
    python benchmarks/published_step.py --device cuda --sizes 512:1 --batch 8 --recompute --precision bfloat16

The plain step is a re-creation, not the published code, which needs torch 1.11. Like that code it runs the text encoder in
every step, computes every attention of the U-Net openly, keeps the softmax of small maps in a controller, and updates each
tensor by itself (AdamW without fusion). On a GPU it may use TF32, which torch 1.11 did by default. --recompute has it forget
and recompute the U-Net's blocks, as the published configuration asks: less memory, more time. Without it the plain step is
at its fastest.

Weights are random. Each step lives in a process of its own, and the two take turns: ours, plain, ours, plain. Prints for each
size the seconds of a step (medians), the ratio with its least and greatest value, peak memory, and how far the outputs differ.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from clock import allow_tf32, peak_memory, wait_for
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor
from random_weights import TOKENS, random_weights
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tadp_ray.backbones.stable_diffusion.backbone import StableDiffusionBackbone
from tadp_ray.backbones.stable_diffusion.load import Diffusion
from tadp_ray.config.model import MODELS, ModelConfig
from tadp_ray.config.recipe import Recipe
from tadp_ray.tasks.build import build_head, task_of
from tadp_ray.tasks.segmentation.config import SemanticFPNConfig
from tadp_ray.training.model import TADP
from tadp_ray.training.optim import make_optimizer
from tadp_ray.training.precision import autocast

CLASSES = 150
SIZES = ("512:1/8", "256:1/4", "256:1/2")
RATE, BACKBONE_RATE, DECAY = 1.6e-4, 1.6e-5, 0.005
LATENT_SCALE = 0.18215
OUTPUTS_DIFFER = 1e-5
"""Relative difference of the outputs that two ways to compute the same in float32 may have."""


@dataclass(frozen=True)
class Case:
    """What both steps train."""

    crop: int
    """Height and width of an image in pixels."""
    width: Fraction
    """Channels, relative to Stable Diffusion 1.5."""
    batch: int
    device: str
    precision: str
    """Of our step."""
    recompute: bool
    """Whether the plain step recomputes blocks in its backward pass."""

    @property
    def settings(self) -> ModelConfig:
        """The model's settings; the head is scaled like the U-Net."""
        return MODELS["stable_diffusion"](head=SemanticFPNConfig(channels=int(256 * self.width)))

    @property
    def recipe(self) -> Recipe:
        """Table S3 (c) with other sizes."""
        schedule = {"iterations": 4000, "learning_rate": RATE, "weight_decay": DECAY, "batch_size": self.batch}
        return Recipe(caption={"source": "null"}, model=self.settings, schedule=schedule)

    def networks(self) -> Diffusion:
        """The frozen networks, which are the same in both processes."""
        torch.manual_seed(0)
        return random_weights(self.width, self.crop, self.device)

    @cached_property
    def inputs(self) -> dict[str, Tensor]:
        """A batch: images and its noise, tokens of its captions, its masks."""
        rng, side = torch.Generator().manual_seed(1), self.crop // 8
        made = {
            "images": torch.rand(self.batch, 3, self.crop, self.crop, generator=rng) * 2 - 1,
            "noise": torch.randn(self.batch, 4, side, side, generator=rng),
            "words": torch.randint(1000, (self.batch, TOKENS), generator=rng),
            "masks": torch.randint(CLASSES, (self.batch, self.crop, self.crop), generator=rng),
        }
        return {name: tensor.to(self.device) for name, tensor in made.items()}


class Ours:
    """The step of this package, by its own functions."""

    def __init__(self, case: Case) -> None:
        diffusion, side = case.networks(), case.crop // 8
        with torch.no_grad():
            # A training encodes each caption once and reads it from then on.
            self._context = diffusion.text_encoder(case.inputs["words"]).last_hidden_state
        backbone = StableDiffusionBackbone(diffusion, case.settings, TOKENS, (side, side))
        torch.manual_seed(2)
        self.model = TADP(backbone, CLASSES, case.settings).to(case.device).train()
        self._optimizer, _ = make_optimizer(self.model, case.recipe.schedule)
        self._case, self._task, self.precision = case, task_of(case.recipe), "float32"

    def logits(self) -> Tensor:
        """The head's output for the batch."""
        inputs, backbone = self._case.inputs, self.model.backbone
        return self.model(backbone.encode_image(inputs["images"]).sample(inputs["noise"]), self._context)

    def loss(self) -> Tensor:
        """The loss of the batch."""
        with autocast(torch.device(self._case.device), self.precision):
            return self._task.loss(self.logits(), self._case.inputs["masks"])

    def step(self) -> None:
        """Train on the batch once."""
        self.loss().backward()
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def train_in(self, precision: str) -> None:
        """From now on, train in this precision."""
        self.precision = precision


class Controller:
    """Keeps the attention maps of a forward pass by (block, kind, queries), averaged over heads, as prompt-to-prompt does."""

    def __init__(self, most: int) -> None:
        self._most = most  # queries; larger maps are computed and forgotten
        self.maps: dict[tuple[str, str, int], list[Tensor]] = {}

    def keep(self, block: str, kind: str, softmax: Tensor) -> None:
        """Keep the softmax (B, heads, N, T) of one layer."""
        average, queries = softmax.mean(1), softmax.shape[2]
        if queries <= self._most:
            self.maps.setdefault((block, kind, queries), []).append(average.detach())

    def cross(self, queries: int) -> Tensor:
        """The mean map (B, N, T) of the five cross-attention layers with this number of queries."""
        return torch.stack([*self.maps["down", "cross", queries], *self.maps["up", "cross", queries]]).mean(0)


class OpenAttention:
    """Attention by two products and a softmax, which it shows to a controller."""

    def __init__(self, controller: Controller, block: str, kind: str) -> None:
        self._controller, self._block, self._kind = controller, block, kind

    def __call__(
        self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: Any
    ) -> Tensor:
        """Return (B, N, C)."""
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states

        def by_head(tokens: Tensor) -> Tensor:
            return tokens.unflatten(-1, (attn.heads, -1)).transpose(1, 2)

        query, key, value = by_head(attn.to_q(hidden_states)), by_head(attn.to_k(context)), by_head(attn.to_v(context))
        softmax = (torch.einsum("bhnd,bhtd->bhnt", query, key) * attn.scale).softmax(-1)
        self._controller.keep(self._block, self._kind, softmax)
        mixed = torch.einsum("bhnt,bhtd->bhnd", softmax, value).transpose(1, 2).flatten(2)
        return attn.to_out[1](attn.to_out[0](mixed))


class Plain:
    """The published step, re-created."""

    def __init__(self, case: Case) -> None:
        self._case, diffusion, side = case, case.networks(), case.crop // 8
        self._vae, self._text_encoder = diffusion.vae, diffusion.text_encoder
        self._vae.set_attn_processor(AttnProcessor())
        self.unet = diffusion.unet.requires_grad_(True).train()
        self._controller = Controller(most=(side // 2) ** 2)
        for name, layer in self.unet.named_modules():
            if name.endswith(("attn1", "attn2")):
                kind = "cross" if name.endswith("attn2") else "self"
                layer.set_processor(OpenAttention(self._controller, name.partition("_")[0], kind))
        largest, second, third, fourth = self.unet.config.block_out_channels
        torch.manual_seed(2)
        channels, head = (largest, second + TOKENS, third + TOKENS, fourth), case.settings.head
        self.head = build_head(channels, diffusion.strides, CLASSES, head).to(case.device).train()
        groups = [
            {"params": self.unet.parameters(), "lr": BACKBONE_RATE},
            {"params": self.head.parameters(), "lr": RATE},
        ]
        self._optimizer = torch.optim.AdamW(groups, weight_decay=DECAY, foreach=False, fused=False)

    @torch.no_grad()
    def text(self) -> Tensor:
        """Encode the captions."""
        return self._text_encoder(self._case.inputs["words"]).last_hidden_state

    def logits(self) -> Tensor:
        """The head's output for the batch."""
        inputs = self._case.inputs
        with torch.no_grad():
            posterior = self._vae.encode(inputs["images"]).latent_dist
            latents = LATENT_SCALE * (posterior.mean + posterior.std * inputs["noise"])
        self._controller.maps.clear()
        features = pyramid(self.unet, latents, self.text(), self._case.recompute)
        for level in (1, 2):
            size = features[level].shape[-2:]
            maps = self._controller.cross(size.numel()).transpose(1, 2).unflatten(2, size)
            features[level] = torch.cat([features[level], maps], 1)
        return self.head(features)

    def loss(self) -> Tensor:
        """The loss of the batch."""
        masks = self._case.inputs["masks"]
        logits = F.interpolate(self.logits(), masks.shape[-2:], mode="bilinear", align_corners=False)
        return F.cross_entropy(logits, masks, ignore_index=255)

    def step(self) -> None:
        """Train on the batch once."""
        self._optimizer.zero_grad(set_to_none=False)
        self.loss().backward()
        self._optimizer.step()

    def train_in(self, _: str) -> None:
        """From now on, train as torch 1.11 did."""
        allow_tf32(True, True)


def pyramid(unet: UNet2DConditionModel, latents: Tensor, context: Tensor, recompute: bool) -> list[Tensor]:
    """The outputs 11, 7, 4 and 1 of the U-Net's twelve output blocks at timestep 1: largest level first."""

    def run(layer: nn.Module, hidden: Tensor, also: Tensor, **how: bool) -> Any:
        return checkpoint(layer, hidden, also, use_reentrant=False, **how) if recompute else layer(hidden, also, **how)

    def pair(resnet: nn.Module, attention: nn.Module | None, hidden: Tensor) -> Tensor:
        hidden = run(resnet, hidden, time_embedding)
        return run(attention, hidden, context, return_dict=False)[0] if attention else hidden

    def pairs(block: nn.Module) -> Iterator[tuple[nn.Module, nn.Module | None]]:
        yield from zip(block.resnets, getattr(block, "attentions", [None] * len(block.resnets)), strict=True)

    time_embedding = unet.time_embedding(unet.time_proj(torch.ones(len(latents), device=latents.device)))
    hidden = unet.conv_in(latents)
    skipped, outputs = [hidden], []
    for block in unet.down_blocks:
        for resnet, attention in pairs(block):
            hidden = pair(resnet, attention, hidden)
            skipped.append(hidden)
        for layer in block.downsamplers or ():
            hidden = layer(hidden)
            skipped.append(hidden)

    middle = unet.mid_block
    hidden = pair(middle.resnets[0], middle.attentions[0], hidden)
    hidden = run(middle.resnets[1], hidden, time_embedding)

    for block in unet.up_blocks:
        for resnet, attention in pairs(block):
            hidden = pair(resnet, attention, torch.cat([hidden, skipped.pop()], 1))
            outputs.append(hidden)
        for layer in block.upsamplers or ():
            hidden = layer(hidden)
    return [outputs[place] for place in (11, 7, 4, 1)]


def serve(pipe: Connection, kind: type[Ours] | type[Plain], case: Case) -> None:
    """In a process of its own: send the outputs, then the seconds of a step whenever asked, and the peak memory at last."""
    allow_tf32(False, False)
    side = kind(case)
    with torch.no_grad():
        pipe.send(side.logits().float().cpu().numpy())
    side.train_in(case.precision)
    while work := pipe.recv():
        wait_for(case.device)
        began = time.perf_counter()
        getattr(side, work)()
        wait_for(case.device)
        pipe.send(time.perf_counter() - began)
    pipe.send(peak_memory(case.device))


@contextmanager
def process(kind: type[Ours] | type[Plain], case: Case) -> Iterator[Connection]:
    """Start `serve` in a new process; yield the pipe to it."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    served = context.Process(target=serve, args=(there, kind, case))
    served.start()
    there.close()
    try:
        yield here
    finally:
        here.close()
        served.join()


def ask(pipe: Connection, work: str) -> float:
    """Seconds of some work in the other process; of nothing, its peak memory."""
    pipe.send(work)
    return pipe.recv()


def compare(case: Case, pairs: int) -> str:
    """A line about one size."""
    with process(Ours, case) as ours, process(Plain, case) as plain:
        one, other = (np.asarray(pipe.recv(), np.float64) for pipe in (ours, plain))
        differ = float(np.linalg.norm(one - other) / np.linalg.norm(other))
        if not differ < OUTPUTS_DIFFER:
            raise SystemExit(f"{case.crop} pixels, width {case.width}: outputs differ by {differ:.1e}")
        for pipe in (ours, plain):
            ask(pipe, "step")
        spent = [(ask(ours, "step"), ask(plain, "step")) for _ in range(pairs)]
        text = ask(plain, "text")
        memory = [ask(pipe, "") for pipe in (ours, plain)]
    ratios = [first / second for first, second in spent]
    seconds = [statistics.median(side) for side in zip(*spent, strict=True)]
    return (
        f"{case.crop:>6}{str(case.width):>7}{case.batch:>7}{seconds[0]:>10.3f}{seconds[1]:>10.3f}"
        f"{statistics.median(ratios):>8.2f} ({min(ratios):.2f}-{max(ratios):.2f}){memory[0]:>9.2f}{memory[1]:>7.2f}"
        f"{100 * text / seconds[1]:>8.1f}{differ:>12.1e}"
    )


def size(text: str) -> tuple[int, Fraction]:
    """Read `512:1/8`."""
    crop, _, width = text.partition(":")
    if int(crop) % 64 or int(crop) < 128 or not Fraction(1, 8) <= Fraction(width) <= 1:
        raise argparse.ArgumentTypeError(
            f"{text}: give 128 pixels or more, a multiple of 64, and a width from 1/8 to 1"
        )
    return int(crop), Fraction(width)


def main() -> None:
    """Compare at each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=size, default=[size(text) for text in SIZES], help="pixels:width")
    parser.add_argument("--batch", type=int, default=1, help="images a step")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"), help="of our step")
    parser.add_argument("--recompute", action="store_true", help="the plain step recomputes the U-Net's blocks")
    options = parser.parse_args()
    print("                            ours     plain   ours / plain        GiB of each   text, %   outputs")
    print("pixels  width  batch         s/step                                            of plain    differ")
    for crop, width in options.sizes:
        case = Case(crop, width, options.batch, options.device, options.precision, options.recompute)
        print(compare(case, options.pairs), flush=True)


if __name__ == "__main__":
    main()
