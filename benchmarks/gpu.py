"""What does a GPU do with this code, and is it the same as on a CPU? One call of about eight minutes.

    python benchmarks/gpu.py OUT --tokenizer CLIP           # on a machine with a GPU; a folder with CLIP's vocabulary
    python benchmarks/gpu.py OUT --device cpu --small       # every path at the smallest size, without one

Needs neither Ray, MLflow, weights nor data. Sections: machine (products of matrices, a copy), parity (a step of the pocket model
against float64 on the CPU), repeatability (the same step twice), texts (through the text encoder, alone and in batches), full
size (a step of Stable Diffusion 1.5 with random weights, each way to run it by itself, with its share of the measured products of
matrices and peak memory), loading (photographs of ADE20K's size, copies to the GPU), pocket cell, pretraining, compiled (the full
size by torch.compile), paper cell (Table S2's training as a whole for some steps). Each is tried by itself: one that fails is
told and passed over; what would begin after --seconds is left out. Tables go to stdout, the same figures to OUT/gpu.json, which
benchmarks/scaling.py reads.
"""

import argparse
import gc
import json
import math
import os
import shutil
import statistics
import tempfile
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from clock import allow_tf32, peak_memory, seconds_of, wait_for
from diffusers.utils import logging as diffusers_logging
from PIL import Image
from random_weights import TOKENS, random_weights, write_unweighted
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from tadp_ray.backbones.latent.autoencoder import posterior_of
from tadp_ray.conditioning.text_encoder import BATCH
from tadp_ray.config.load import load_recipe
from tadp_ray.config.pretraining import Pretraining
from tadp_ray.config.recipe import Recipe, ScheduleConfig
from tadp_ray.data.datasets import open_dataset
from tadp_ray.data.loader import AugmentedDataset, BatchSampler, train_batches
from tadp_ray.data.pixels import normalized
from tadp_ray.data.sample import Dataset
from tadp_ray.data.scenes import render
from tadp_ray.data.transforms import Augment
from tadp_ray.paper.pocket.autoencoder import build_vae, vae_loss
from tadp_ray.paper.pocket.denoiser import build_denoiser, caption_errors
from tadp_ray.sweep.planning import plan_one
from tadp_ray.tasks.build import task_of
from tadp_ray.training.checkpoint import snapshot
from tadp_ray.training.cost import step_cost
from tadp_ray.training.journal import read_journal
from tadp_ray.training.model import make_model
from tadp_ray.training.optim import make_optimizer
from tadp_ray.training.provenance import provenance
from tadp_ray.training.run import train_cell
from tadp_ray.training.setup import TrainSetup

RECIPES = Path(__file__).resolve().parents[1] / "experiments/recipes"
CLASSES = 150
TF32 = {"strict": (False, False), "float32": (False, True), "tf32": (True, True), "bfloat16": (True, True)}
"""(products of matrices, convolutions) in TF32; float32 is what torch does by itself."""
PEAK_OF = {"strict": "float32", "float32": "tf32", "tf32": "tf32", "bfloat16": "bfloat16"}
COMPILE_SECONDS = 150
"""Of the budget, what compiling once may take."""
KERNELS = 30
"""Rows of a table of kernels."""


@dataclass
class Bench:
    """A call of this program: its options, its clock and what it has found."""

    out: Path
    device: str
    small: bool
    seconds: float
    tokenizer: Path | None
    began: float = field(default_factory=time.monotonic)
    found: dict[str, Any] = field(default_factory=dict)

    @property
    def left(self) -> float:
        """Seconds of the budget."""
        return self.seconds - (time.monotonic() - self.began)

    def say(self, text: str) -> None:
        """Print a line of a table."""
        print(f"[{time.monotonic() - self.began:5.0f} s] {text}", flush=True)

    def keep(self, section: str, **figures: Any) -> None:
        """Add figures of a section, and write the file."""
        self.found.setdefault(section, {}).update(figures)
        (self.out / "gpu.json").write_text(json.dumps(self.found, indent=1))


def machine(bench: Bench) -> None:
    """What the device can do: large products of matrices, and a copy within its memory."""
    device, side = bench.device, 512 if bench.small else 8192
    bench.keep("machine", **provenance(), torch=torch.__version__)
    if device == "cuda":
        bench.keep("machine", card=torch.cuda.get_device_name(), cuda=torch.version.cuda)
    for name, kind in (("bfloat16", torch.bfloat16), ("tf32", torch.float32), ("float32", torch.float32)):
        allow_tf32(name == "tf32", False)
        left, right = (torch.randn(side, side, device=device, dtype=kind) for _ in range(2))
        rate = 2 * side**3 / statistics.median(seconds_of(lambda a=left, b=right: a @ b, device, 10))
        bench.keep("machine", **{f"{name}_flops": rate})
        bench.say(f"product of matrices, {name:<9}{rate / 1e12:8.2f} TFLOP/s")
    source = torch.randn(2**22 if bench.small else 2**30, device=device)
    copy = torch.empty_like(source)
    rate = 2 * source.nbytes / statistics.median(seconds_of(lambda: copy.copy_(source), device, 10))
    bench.keep("machine", copy_bytes=rate)
    bench.say(f"copy, read and written {rate / 1e12:14.3f} TB/s")


def lowered(device: str, wanted: bool) -> torch.autocast:
    """Return the context of a pass in bfloat16, if wanted."""
    return torch.autocast(device, torch.bfloat16, enabled=wanted)


@dataclass(frozen=True)
class PocketStep:
    """The first forward and backward pass of a pocket training, on any device and in any precision."""

    setup: TrainSetup
    state: Mapping[str, Tensor]
    images: Tensor
    masks: Tensor
    context: Tensor
    noise: Tensor

    def __call__(self, device: str, kind: torch.dtype, precision: str = "float32") -> dict[str, Tensor]:
        """Return latents, output, loss, and all gradients as one vector."""
        setup = self.setup
        vae = setup.pretrained.vae.to(device, kind)
        model = make_model(setup.pretrained, setup.recipe.model, len(setup.classes), setup.prompt_tokens, setup.view)
        model.load_state_dict(self.state)
        model.to(device, kind).train()
        with lowered(device, precision == "bfloat16"):
            latents = model.backbone.encode_image(self.images.to(device, kind)).sample(self.noise.to(device, kind))
            output = model(latents, self.context.to(device, kind))
            loss = setup.task.loss(output, self.masks.to(device))
        loss.backward()
        gradient = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
        vae.to("cpu", torch.float32)
        return {"latents": latents, "output": output, "loss": loss, "gradient": gradient}


def pocket_step(storage: str) -> PocketStep:
    """Return the first pass of the shipped pocket recipe."""
    changes = ["data.train=16", "data.val=8", f"compute.storage={storage}"]
    (cell,) = plan_one(RECIPES / "pocket_segmentation.yaml", changes, seed=0).cells
    setup = TrainSetup(cell.recipe, 0)
    ids, images, masks = next(batches(cell.recipe, setup.train, steps=1))
    context = setup.contexts([setup.train_prompts[image_id] for image_id in ids])
    images = normalized(images, cell.recipe.model.pixel_normalization)
    torch.manual_seed(0)
    model = make_model(setup.pretrained, cell.recipe.model, len(setup.classes), setup.prompt_tokens, setup.view)
    noise = torch.randn(len(ids), *model.backbone.latent_shape(images))
    return PocketStep(setup, model.state_dict(), images, masks, context, noise)


def batches(recipe: Recipe, dataset: Dataset, steps: int, workers: int = 0) -> Iterator[Any]:
    """Return the micro-batches of the first steps of a training."""
    task, schedule = task_of(recipe), recipe.schedule
    augment = Augment(recipe.augment, task.truth, recipe.model.pixel_normalization)
    views = AugmentedDataset(dataset, augment, task.target)
    order = BatchSampler(
        start=0,
        stop=steps,
        batch_size=schedule.batch_size,
        per_pass=schedule.images_per_pass,
        length=len(dataset),
        seed=0,
    )
    return train_batches(views, order, workers)


def parity(bench: Bench) -> None:
    """How far a step on the device is from float64 on the CPU, beside how far float32 on the CPU is."""
    ways = {"cpu float32": ("cpu", "strict")}
    if bench.device == "cuda":
        ways |= {f"cuda {precision}": ("cuda", precision) for precision in ("strict", "float32", "tf32")}
    ways[f"{bench.device} bfloat16"] = (bench.device, "bfloat16")
    with tempfile.TemporaryDirectory() as storage:
        step = pocket_step(storage)
        exact = step("cpu", torch.float64)
        bench.say(f"{'parity':<16}" + "".join(f"{name:>10}" for name in exact))
        for name, (device, precision) in ways.items():
            allow_tf32(*TF32[precision])
            found = step(device, torch.float32, precision)
            differ = {part: difference(found[part], exact[part]) for part in exact}
            bench.keep("parity", **{name: differ})
            bench.say(f"{name:<16}" + "".join(f"{value:>10.1e}" for value in differ.values()))


def difference(one: Tensor, other: Tensor) -> float:
    """The relative difference of two tensors as vectors."""
    one, other = (tensor.detach().cpu().double() for tensor in (one, other))
    return float((one - other).norm() / other.norm())


def repeatability(bench: Bench) -> None:
    """Whether the same step twice has equal gradients, with torch's promises of determinism and without."""
    modes = {
        "as torch is": (False, False),
        "cuDNN deterministic": (True, False),
        "deterministic algorithms": (True, True),
    }
    allow_tf32(*TF32["float32"])
    with tempfile.TemporaryDirectory() as storage:
        step = pocket_step(storage)
        for name, (cudnn, algorithms) in modes.items():
            torch.backends.cudnn.deterministic = cudnn
            torch.use_deterministic_algorithms(algorithms)
            try:
                one, other = (step(bench.device, torch.float32)["gradient"] for _ in range(2))
                answer = "equal" if torch.equal(one, other) else f"differ by {difference(one, other):.1e}"
            except RuntimeError as error:
                answer = f"refused: {str(error).partition('.')[0]}"
            finally:
                torch.use_deterministic_algorithms(False)
                torch.backends.cudnn.deterministic = False
            bench.keep("repeatability", **{name: answer})
            bench.say(f"twice, {name:<26}{answer}")


@torch.no_grad()
def texts(bench: Bench) -> None:
    """What a text takes in the text encoder of Stable Diffusion 1.5, and whether its context depends on its place in a batch."""
    small = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
    large = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    config = CLIPTextConfig(vocab_size=49408, max_position_embeddings=TOKENS, **(small if bench.small else large))
    encoder = CLIPTextModel(config).to(bench.device).eval()
    ids = torch.randint(49406, (BATCH, TOKENS), device=bench.device)
    encode = lambda part: encoder(part).last_hidden_state
    allow_tf32(*TF32["strict"])
    alone, together = (
        statistics.median(seconds_of(lambda p=part: encode(p), bench.device, 10)) / len(part) for part in (ids[:1], ids)
    )
    same = torch.equal(encode(ids.flip(0)), encode(ids).flip(0))
    bench.keep("texts", alone_s=alone, batch_s=together, same=same)
    told = "the same wherever it stands" if same else "which depends on its place"
    bench.say(f"a text: {alone * 1e3:.2f} ms alone, {together * 1e3:.2f} ms in a batch of {BATCH}, {told}")


@dataclass(frozen=True)
class Way:
    """A way to run a step of the full size."""

    name: str
    precision: str
    pinned: bool = False
    """cuDNN's deterministic algorithms only."""
    benchmark: bool = False
    """cuDNN tries its algorithms and keeps the fastest."""
    channels_last: bool = False
    low_vae: bool = False
    """The frozen VAE is in bfloat16 itself, outside autocast, so that its norms are, too: as the training does on a GPU."""
    compiled: tuple[str, ...] = ()
    images: int | None = None
    """Images of a step; None: of the recipe."""
    traced: bool = False
    """Print its kernels, too."""


FASTER = Way("bfloat16, VAE held in it", "bfloat16", low_vae=True)
WAYS = (
    Way("float32, strict", "strict"),
    Way("float32, torch's default", "float32", pinned=True),
    Way("tf32", "tf32"),
    Way("tf32, channels_last", "tf32", benchmark=True, channels_last=True),
    Way("bfloat16, cuDNN pinned", "bfloat16", pinned=True),
    Way("bfloat16", "bfloat16"),
    replace(FASTER, traced=True),
    replace(FASTER, name="... channels_last", channels_last=True),
    replace(FASTER, name="... cuDNN's fastest", benchmark=True),
    replace(FASTER, name="... two images", images=2),
)
COMPILED = (
    replace(FASTER, name="VAE and model compiled", compiled=("vae", "model"), traced=True),
    replace(FASTER, name="... two images", compiled=("vae", "model"), images=2),
)


class FullSize:
    """A step of ADE20K's recipe with random weights."""

    def __init__(self, bench: Bench) -> None:
        crop, self.batch = (64, 2) if bench.small else (512, 16)
        changes = {"augment.crop": crop, "schedule.batch_size": self.batch, "compute.num_train_workers": 1}
        words = [f"{key}={value}" for key, value in changes.items()]
        recipe = load_recipe(RECIPES / "ade20k_fast_4k_oracle.yaml", words)
        self.device, device = bench.device, bench.device
        torch.manual_seed(0)
        diffusion = random_weights(Fraction(1, 8) if bench.small else Fraction(1), crop, device)
        self.vae, self.task = diffusion.vae, task_of(recipe)
        self.model = make_model(diffusion, recipe.model, CLASSES, TOKENS, (crop, crop)).to(device).train()
        self.optimizer, _ = make_optimizer(self.model, recipe.schedule)
        cost = step_cost(recipe, diffusion, CLASSES, TOKENS, (crop, crop))
        self.flops, self.told_gib = cost.flops, cost.memory_bytes / 2**30
        self.images = torch.rand(self.batch, 3, crop, crop, device=device) * 2 - 1
        self.noise = torch.randn(self.batch, 4, crop // 8, crop // 8, device=device)
        self.context = torch.randn(self.batch, TOKENS, self.model.backbone.context_width, device=device)
        self.masks = torch.randint(CLASSES, (self.batch, crop, crop), device=device)
        # The other backend takes the same path through torch.compile, but writes no kernels, which takes a minute on a CPU.
        self.backend = "inductor" if device == "cuda" else "aot_eager"
        model, task = self.model, self.task
        self.loss_of: Any = lambda latents, context, masks: task.loss(model(latents, context), masks)
        self.encode_image, self.compiled = model.backbone.encode_image, set[str]()

    def prepare(self, way: Way) -> None:
        """Change the networks to a way; what is compiled stays so."""
        allow_tf32(*TF32[way.precision])
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = way.pinned, way.benchmark
        order = torch.channels_last if way.channels_last else torch.contiguous_format
        # Fused AdamW takes weights and moments in one order only; moments are made anew.
        self.optimizer.state.clear()
        self.optimizer.zero_grad(set_to_none=True)
        self.model.to(memory_format=order)
        for part in sorted({*way.compiled} - self.compiled):
            self.compiled.add(part)
            if part == "vae":
                self.encode_image = torch.compile(self.model.backbone.encode_image, backend=self.backend)
            else:
                self.loss_of = torch.compile(self.loss_of, backend=self.backend)

    def encode(self, way: Way) -> Tensor:
        """Sample the latents of the images."""
        images, noise = self.images[: way.images], self.noise[: way.images]
        with lowered(self.device, way.precision == "bfloat16"):
            # Without `low_vae`, as any other network in autocast.
            encode = self.encode_image if way.low_vae else lambda images: posterior_of(self.vae, images)
            posterior = encode(images)
        return posterior.mean + posterior.std * noise

    def step(self, way: Way, mark: Callable[[], object] = lambda: None) -> None:
        """Train on the batch once; call `mark` after each of the parts that `phases` names."""
        latents = self.encode(way)
        mark()
        with lowered(self.device, way.precision == "bfloat16"):
            loss = self.loss_of(latents, self.context[: way.images], self.masks[: way.images])
        mark()
        loss.backward()
        mark()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        mark()

    def phases(self, way: Way) -> dict[str, float]:
        """Seconds of each part of a step."""
        marks: list[float] = []

        def mark() -> None:
            wait_for(self.device)
            marks.append(time.perf_counter())

        mark()
        self.step(way, mark)
        names = ("encode", "forward", "backward", "optimizer")
        return {name: later - earlier for name, (earlier, later) in zip(names, pairwise(marks), strict=True)}

    @torch.no_grad()
    def predict(self, way: Way, latents: Tensor) -> None:
        """Predict, as an evaluation does."""
        with lowered(self.device, way.precision == "bfloat16"):
            # Not what is compiled, which would be compiled once more for a pass without gradients.
            self.model(latents, self.context[: way.images])

    def queue(self, way: Way) -> float:
        """Seconds of the host until a step's work is queued; on a CPU, all of it."""
        wait_for(self.device)
        began = time.perf_counter()
        self.step(way)
        spent = time.perf_counter() - began
        wait_for(self.device)
        return spent


def measure(bench: Bench, full: FullSize, way: Way) -> dict[str, Any]:
    """Run one way; return and print its row."""
    gc.collect()
    if full.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    count, images = 1 if bench.small else 3 if way.precision != "bfloat16" else 6, way.images or full.batch
    began = time.perf_counter()
    full.prepare(way)
    (first,) = seconds_of(lambda: full.step(way), full.device, 1, warm=0)
    spent = seconds_of(lambda: full.step(way), full.device, count)
    whole, memory = statistics.median(spent), peak_memory(full.device)
    encode = statistics.median(seconds_of(lambda: full.encode(way), full.device, count))
    latents = full.encode(way)
    peak = bench.found["machine"][f"{PEAK_OF[way.precision]}_flops"]
    row = {
        "name": way.name,
        "images": images,
        "step_s": whole,
        "spread_s": max(spent) - min(spent),
        "images_per_s": images / whole,
        "encode_s": encode / images,
        "predict_s": statistics.median(seconds_of(lambda: full.predict(way, latents), full.device, count)) / images,
        "queued_s": full.queue(way),
        "first_s": first,
        "memory_gib": memory,
        "share_of_peak": full.flops * images / full.batch / whole / peak,
        "took_s": time.perf_counter() - began,
        "phases": full.phases(way),
    }
    bench.say(
        f"{way.name:<42}{images:>6}{1000 * whole:9.1f}{1000 * row['spread_s']:8.1f}{row['images_per_s']:10.1f}"
        f"{1000 * encode:9.1f}{1000 * row['queued_s']:9.1f}{first:8.1f}{memory:7.1f}{100 * row['share_of_peak']:7.1f} "
        f"of {PEAK_OF[way.precision]}"
    )
    bench.say("    ms: " + ", ".join(f"{name} {1000 * spent:.1f}" for name, spent in row["phases"].items()))
    if way.traced:
        trace(bench, full, way)
    return row


def trace(bench: Bench, full: FullSize, way: Way) -> None:
    """Print the kernels of a step that take most of its time."""
    activity = torch.profiler.ProfilerActivity
    with torch.profiler.profile(activities=[activity.CUDA if full.device == "cuda" else activity.CPU]) as profile:
        full.step(way)
        wait_for(full.device)
    # On a GPU the calls that start kernels, and wait for them, are recorded, too.
    time_of = lambda event: event.self_device_time_total if full.device == "cuda" else event.self_cpu_time_total
    events = sorted(filter(time_of, profile.key_averages()), key=time_of, reverse=True)
    whole = sum(map(time_of, events))
    bench.say(f"    {sum(event.count for event in events)} kernels, {whole / 1000:.1f} ms")
    kept = [{"name": event.key, "count": event.count, "ms": time_of(event) / 1000} for event in events[:KERNELS]]
    bench.keep("kernels", **{way.name: kept})
    for row in kept:
        bench.say(f"    {row['ms']:8.2f} ms{row['count']:6} x {row['name'][:110]}")


def tried(bench: Bench, full: FullSize, way: Way) -> dict[str, Any]:
    """Run one way, with half of the images if the card has no memory for all; return its row, or what failed."""
    images = way.images or full.batch
    for share in (images, images // 2):
        try:
            return measure(bench, full, replace(way, images=share))
        except torch.OutOfMemoryError:
            failed = f"out of memory with {share} images"
        except Exception as error:
            failed = repr(error)[:400]
            break
        bench.say(f"{way.name}: {failed}")
    bench.say(f"{way.name}: failed, {failed}")
    return {"name": way.name, "failed": failed}


def measure_all(bench: Bench, section: str, full: FullSize, ways: Sequence[Way], need: float) -> None:
    """Run ways one after the other while there are `need` seconds left for each; one that fails is told."""
    rows = []
    bench.say(f"{full.flops / 1e12:.3g} TFLOP a step of {full.batch}; a dry run tells {full.told_gib:.1f} GiB")
    bench.say(
        f"{'':<42}{'images':>6}{'ms':>9}{'spread':>8}{'images/s':>10}{'VAE, ms':>9}{'queued':>9}{'first, s':>9}{'GiB':>6}"
        f"{'% of the peak':>16}"
    )
    for way in ways:
        if bench.left < need:
            bench.say(f"{way.name}: left out, no time")
            continue
        rows.append(tried(bench, full, way))
        bench.keep(section, rows=rows, flops=full.flops, told_gib=full.told_gib)
    # What a sweep is planned by is the fastest step so far.
    known = bench.found["scaling"].get("step_s", math.inf)
    for row in rows:
        if row.get("images") == full.batch and row["step_s"] < known:
            known = row["step_s"]
            bench.keep("scaling", **{key: row[key] for key in ("step_s", "encode_s", "predict_s")})


def full_size(bench: Bench) -> None:
    """The step of the full size in each precision, and what makes it faster."""
    full = FullSize(bench)
    measure_all(bench, "full_size", full, WAYS, need=10)
    spent = min(seconds_of(lambda: snapshot(full.model, full.optimizer), full.device, 2))
    bench.keep("scaling", checkpoint_copy_s=spent)
    bench.say(f"copy of a checkpoint to the host: {spent:.2f} s")


def compiled(bench: Bench) -> None:
    """The step of the full size by torch.compile."""
    measure_all(bench, "compiled", FullSize(bench), COMPILED, need=0 if bench.small else COMPILE_SECONDS)
    counted = torch._dynamo.utils.counters
    graphs, breaks = counted["stats"]["unique_graphs"], sum(counted["graph_break"].values())
    bench.keep("compiled", graphs=graphs, breaks=breaks)
    bench.say(f"{graphs} graphs, {breaks} breaks")


def make_photographs(folder: Path, count: int) -> None:
    """Write made-up photographs and masks of ADE20K's usual size, in its layout."""
    rng, size = np.random.default_rng(0), (683, 512)
    for split, wanted in (("training", count), ("validation", 1)):
        for part in ("images", "annotations"):
            (folder / part / split).mkdir(parents=True)
        for number in range(wanted):
            picture = Image.fromarray(rng.integers(0, 255, (24, 32, 3), dtype=np.uint8))
            picture.resize(size, Image.Resampling.BICUBIC).save(folder / f"images/{split}/{number}.jpg", quality=90)
            mask = Image.fromarray(rng.integers(0, CLASSES + 1, (2, 3), dtype=np.uint8))
            mask.resize(size, Image.Resampling.NEAREST).save(folder / f"annotations/{split}/{number}.png")


def loading(bench: Bench) -> None:
    """Images a second by loader processes, and how long a batch takes to the device."""
    with tempfile.TemporaryDirectory() as folder:
        make_photographs(Path(folder), 16 if bench.small else 256)
        changes = [f"data.root={folder}", *(["schedule.batch_size=4"] if bench.small else [])]
        recipe = load_recipe(RECIPES / "ade20k_fast_4k_oracle.yaml", changes)
        dataset, size = open_dataset(recipe.data, "train"), recipe.schedule.batch_size
        for workers in (0, 2) if bench.small else (0, 4, 8, 14):
            # What lies ready when the clock starts, two batches a process, is no work of the time after it.
            ready, timed = 2 * workers + 1, 3 * workers + 2
            passes = batches(recipe, dataset, ready + timed, workers)
            for _ in range(ready):
                next(passes)
            began = time.perf_counter()
            (batch,) = deque(passes, maxlen=1)
            seconds = (time.perf_counter() - began) / (timed * size)
            bench.keep("loading", **{f"processes_{workers}": 1 / seconds})
            bench.say(f"loading by {workers:>2} processes{1 / seconds:10.1f} images/s")
            if workers == 0:
                bench.keep("scaling", load_s=seconds)
    copies(bench, batch[1], batch[2])


def copies(bench: Bench, images: Tensor, masks: Tensor) -> None:
    """How long a batch takes to a GPU: pageable as the loader makes it, pinned, and pinned in bytes."""
    if bench.device != "cuda":
        bench.say("copies: left out, there is no GPU to copy to")
        return
    floats = [normalized(images), masks.long()]
    ways = {
        "pageable floats": floats,
        "pinned floats": [tensor.pin_memory() for tensor in floats],
        "pinned, as loaded": [images.pin_memory(), masks.pin_memory()],
    }
    for name, tensors in ways.items():
        work = lambda made=tensors: [tensor.to("cuda", non_blocking=True) for tensor in made]
        seconds = statistics.median(seconds_of(work, "cuda", 10))
        bench.keep("copies", **{name: seconds})
        bench.say(f"copy of a batch, {name:<14}{1000 * seconds:8.2f} ms")


def pocket_cell(bench: Bench) -> None:
    """The pocket recipe from its start to its last metric, in each precision."""
    for precision in get_args(ScheduleConfig.model_fields["precision"].annotation):
        with tempfile.TemporaryDirectory() as storage:
            changes = [f"schedule.precision={precision}", f"compute.storage={storage}", "compute.gpus=1"]
            if bench.small:
                changes += ["schedule.iterations=3", "schedule.warmup_iterations=1", "evaluation.interval=3"]
                changes += ["data.train=12", "data.val=6", "compute.gpus=0"]
            (cell,) = plan_one(RECIPES / "pocket_segmentation.yaml", changes, seed=0).cells
            metrics = train_cell(cell, torch.device(bench.device))
        kept = {key: metrics[key] for key in ("miou", "seconds", "train_seconds_per_step", "text_seconds")}
        bench.keep("pocket_cell", **{precision: kept})
        bench.say(
            f"pocket cell, {precision:<10}{kept['seconds']:7.1f} s{1000 * kept['train_seconds_per_step']:8.1f} ms a step"
            f"{kept['miou']:8.2f} % mIoU"
        )


def make_weights(folder: Path, tokenizer: Path, device: str) -> None:
    """Write a diffusers folder of Stable Diffusion 1.5 with random weights."""
    made = random_weights(Fraction(1), 512, device)
    for name in ("unet", "vae", "text_encoder"):
        getattr(made, name).save_pretrained(folder / name)
    write_unweighted(folder, tokenizer)


def paper_cell(bench: Bench) -> None:
    """Steps of Table S2's training from its start to its last metric, in each precision and compiled."""
    if not bench.small and bench.tokenizer is None:
        bench.say("paper cell: left out; give --tokenizer")
        return
    ways = {"tf32": ("tf32", False), "bfloat16": ("bfloat16", False), "bfloat16, compiled": ("bfloat16", True)}
    steps = 10 if bench.small else 40
    with tempfile.TemporaryDirectory() as folder:
        make_photographs(Path(folder, "data"), 16 if bench.small else 256)
        if not bench.small:
            make_weights(Path(folder, "weights"), bench.tokenizer, bench.device)
        for name, (precision, compiled) in ways.items():
            if compiled and bench.device == "cpu":
                continue  # the compiler for CPUs takes many minutes
            words = {
                "data.root": f"{folder}/data",
                "model.weights": "pocket" if bench.small else f"{folder}/weights",
                "schedule.precision": precision,
                "schedule.iterations": steps,
                "schedule.warmup_iterations": 1,
                "evaluation.interval": steps,
                "compute.compile": compiled,
                "compute.storage": f"{folder}/{name}",
                "compute.num_train_workers": 1,
                "compute.gpus": int(bench.device == "cuda"),
            }
            if bench.small:
                words |= {"schedule.batch_size": 2, "augment.crop": 64, "evaluation.crop": 64, "evaluation.stride": 64}
                words |= {"augment.resize": 64, "compute.num_workers": 0, "compute.cpus": 1}
            changes = [f"{key}={value}" for key, value in words.items()]
            (cell,) = plan_one(RECIPES / "ade20k_fast_4k_oracle.yaml", changes, seed=0).cells
            metrics = train_cell(cell, torch.device(bench.device))
            # The first ten steps warm up, and may compile.
            records = [r["metrics"] for r in read_journal(cell.folder) if "seconds_per_step" in r.get("metrics", {})]
            step_s = statistics.median(record["seconds_per_step"] for record in records[1:] or records)
            kept = {key: metrics.get(key) for key in ("seconds", "peak_gpu_memory_gib", "matrix_peak_share")}
            kept |= {"step_s": step_s, "first_s": records[0]["seconds_per_step"] * 10, "loss": records[-1]["loss"]}
            bench.keep("paper_cell", **{name: kept})
            bench.say(
                f"paper cell, {name:<19}{1000 * step_s:9.1f} ms a step, the first ten {kept['first_s']:6.1f} s, whole "
                f"{kept['seconds']:6.1f} s, {kept['peak_gpu_memory_gib'] or 0:5.1f} GiB, loss {kept['loss']:.4f}"
            )
            shutil.rmtree(f"{folder}/{name}")


def pretraining(bench: Bench) -> None:
    """Scenes a second that a core draws, and images a second that the pocket model's stages train."""
    plan, device = Pretraining(), bench.device
    scenes = 4 if bench.small else 64
    began = time.perf_counter()
    for index in range(scenes):
        render("pretrain", 0, index, plan.size)
    keep_rate(bench, "scenes drawn by a core", scenes / (time.perf_counter() - began))

    allow_tf32(*TF32["float32"])
    torch.manual_seed(0)
    vae = build_vae(plan.size).to(device).train()
    model = build_denoiser(vae, plan.size, plan.channels)
    networks = nn.ModuleList([model.diffusion.unet, model.diffusion.text_encoder]).to(device)
    side = plan.size // 4
    for batch in (2,) if bench.small else (plan.vae_batch, 16 * plan.vae_batch):
        images = torch.rand(batch, 3, plan.size, plan.size, device=device) * 2 - 1
        noise = torch.randn(batch, 4, side, side, device=device)
        train = trainer(vae, lambda x=images, n=noise: vae_loss(vae, x, n))
        keep_rate(bench, f"vae, batch {batch}", batch / statistics.median(seconds_of(train, device, 5)))
    for batch in (2,) if bench.small else (plan.unet_batch, 16 * plan.unet_batch):
        clean, noise = (torch.randn(batch, 4, side, side, device=device) for _ in range(2))
        times, texts = torch.randint(1000, (batch,), device=device), ["a cat and a dog on the grass"] * batch
        train = trainer(
            networks, lambda x=clean, n=noise, t=times, words=texts: caption_errors(model, x, n, t, words).mean()
        )
        keep_rate(bench, f"unet, batch {batch}", batch / statistics.median(seconds_of(train, device, 5)))


def trainer(network: nn.Module, loss: Any) -> Any:
    """Return a step of the pretraining's optimizer on a loss."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        loss().backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def keep_rate(bench: Bench, name: str, rate: float) -> None:
    """Keep and print a rate of the pretraining."""
    bench.keep("pretraining", **{name: rate})
    bench.say(f"pretraining, {name:<24}{rate:10.1f} images/s")


SECTIONS = (machine, parity, repeatability, texts, full_size, loading, pocket_cell, pretraining, compiled, paper_cell)


def main() -> None:
    """Run every section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for gpu.json")
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--small", action="store_true", help="the smallest sizes, to try every path")
    parser.add_argument(
        "--tokenizer", type=Path, help="folder with CLIP's vocab.json and merges.txt, for the paper cell"
    )
    parser.add_argument("--seconds", type=float, default=330, help="nothing new begins after these")
    parser.add_argument(
        "--only", nargs="+", choices=[section.__name__ for section in SECTIONS], help="machine runs always"
    )
    options = parser.parse_args()
    # Deterministic products of matrices ask for it before the first one.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # It warns whenever an autoencoder changes its precision.
    diffusers_logging.set_verbosity_error()
    options.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(options.out, options.device, options.small, options.seconds, options.tokenizer)
    bench.keep("scaling")
    threads = torch.get_num_threads()
    for section in SECTIONS:
        name = section.__name__
        if options.only and name not in ("machine", *options.only):
            continue
        if bench.left < 0:
            bench.say(f"{name}: left out, no time")
            continue
        began = time.monotonic()
        torch.set_num_threads(threads)  # a cell sets its own
        try:
            section(bench)
        except Exception as error:
            bench.say(f"{name}: failed\n{traceback.format_exc()[-2000:]}")
            bench.keep("failed", **{name: repr(error)[:400]})
        bench.keep("seconds", **{name: round(time.monotonic() - began, 1)})
    bench.say(f"seconds by section: {bench.found['seconds']}")


if __name__ == "__main__":
    main()
