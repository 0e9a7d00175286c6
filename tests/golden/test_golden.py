"""Short trainings give the losses and metrics that are kept beside this file, number for number.

Each case is one cell of the pocket scale: the loss and the learning rate of every step, the main metrics of every evaluation,
and the final metrics. Between them the cases use every part that decides a number: how latents are drawn, scaled and noised, the
timesteps, layers, attention maps, each source and encoding of captions, augmentation, accumulation, dropout, every schedule and
rule of decay, every head, sliding windows, sizes and mirror images in evaluation.

The values were written by one machine, which each file names. There they must be equal bit by bit. Another processor or
another torch adds up in another order, so that there the values may differ by the tolerances below.

A change that is meant to change numbers writes them anew, and its commit says why:

    python -m pytest tests/golden --write-golden
"""

import json
import platform
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tadp_ray.config.cell import Cell
from tadp_ray.config.recipe import Recipe
from tadp_ray.data.datasets import open_dataset
from tadp_ray.layout import PER_IMAGE
from tadp_ray.tasks.per_image import read_per_image
from tadp_ray.training import evaluate, loop
from tadp_ray.training.digests import model_digests
from tadp_ray.training.run import run

HERE = Path(__file__).parent
FIRST_LOSS = 1e-4
"""Relative tolerance of the first loss on another machine: no optimizer step has yet enlarged what rounding does."""
LATER, SAMPLED = 5e-2, 0.1
"""Relative tolerance of later losses on another machine, and of those of sampled proposals (detection).

AdamW makes whole steps of gradients that are rounding alone. Between an AMD EPYC and an Intel Xeon the last losses differ by 5.5
percent in detection, and by at most 0.02 elsewhere.
"""
OUTPUT = 0.2
"""The same of the sizes of evaluated outputs, where single boxes come and go."""
EXACT = 1e-9
"""Relative tolerance, on another machine, of what no arithmetic of the model enters."""
FACTS = ("parameters", *(f"images/{name}" for name in ("precision", "recall", "pixels", "truth", "objects")))
"""Final metrics that no arithmetic of the model enters."""
COSTS = ("seconds", "text_seconds", "start_read_mib", "train_seconds_per_step", "checkpoint_seconds", "peak_memory_gib")
"""Final metrics that are about the machine."""

SCENES = {"kind": "scenes", "train": 8, "val": 4, "size": 64, "eval_split": "val", "style": "photo", "seed": 0}
SCHEDULE = {"iterations": 4, "batch_size": 4, "learning_rate": 5e-4, "backbone_lr_mult": 0.5, "weight_decay": 0.3}
MODEL = {
    "weights": "pocket",
    "timestep": 1,
    "latent": {"draw": "sample", "scale": "scaled"},
    "pixel_normalization": "half",
}

CASES: dict[str, dict[str, Any]] = {
    "segmentation": {
        "data": {**SCENES, "extra_styles": ["night"]},
        "augment": {
            "scale": [0.5, 2.0],
            "crop": 64,
            "crop_max_share": 0.6,
            "pad": True,
            "flip": 0.5,
            "colour": "mmseg",
        },
        "caption": {"source": "oracle", "precision": 0.5, "recall": 0.75, "min_true": 1, "shuffle": True},
        "model": {
            **MODEL,
            "attention_maps": "cross",
            "head": {"kind": "semantic_fpn", "channels": 16, "dropout": 0.1, "classifier_std": 0.1},
        },
        "schedule": {**SCHEDULE, "micro_batch": 2, "warmup_iterations": 2, "warmup_ratio": 0.1, "power": 0.9},
        "evaluation": {"interval": 2, "mode": "slide", "crop": 48, "stride": 32, "multi_scale": [1.5]},
    },
    "pascal": {
        "data": SCENES,
        "augment": {"scale": [0.5, 2.0], "crop": 32, "stretch": 64, "colour": "hsv"},
        "caption": {"source": "class_names", "encoding": "class_embeddings", "templates": "averaged"},
        "model": {
            **MODEL,
            "latent": {"draw": "mode", "scale": "raw"},
            "pixel_normalization": "imagenet",
            "adapter": True,
            "attention_maps": "cross+self",
            "detach_attention": False,
            "feature_norm": True,
            "head": {"kind": "smp_fpn", "pyramid": 32, "channels": 32, "dropout": 0.2, "loss": "focal"},
        },
        "schedule": {**SCHEDULE, "weight_decay_rule": "as_mmcv", "min_lr": 2e-4},
        "evaluation": {"interval": 2, "score_at": "view"},
    },
    "depth": {
        "task": "depth",
        "data": SCENES,
        "augment": {"flip": 0.5, "colour": "nyu", "cut_depth": 0.5, "crop": 32, "pad_to": 64},
        "caption": {"source": "template", "wording": "long", "precision": 0.8, "recall": 0.6},
        "model": {
            **MODEL,
            "attention_maps": "none",
            "feature_norm": True,
            "head": {"kind": "vpd_depth", "fused": 32, "deconvolved": 16, "channels": 16, "max_depth": 80},
        },
        "schedule": {
            **SCHEDULE,
            "lr_schedule": "triangular",
            "peak_step": 2,
            "min_lr": 1e-4,
            "weight_decay_rule": "matrices",
        },
        "evaluation": {"interval": 2, "mode": "whole", "flip": True},
    },
    "detection": {
        "task": "detection",
        "data": SCENES,
        "augment": {"flip": 0.5},
        "caption": {"source": "oracle", "precision": 1.0, "recall": 1.0, "modifiers": ["a dark photo of a {caption}"]},
        "model": {
            **MODEL,
            "attention_maps": "cross",
            "head": {
                "kind": "faster_rcnn",
                "channels": 16,
                "representation": 32,
                "samples": 32,
                "anchors": [16, 24, 36, 48],
            },
        },
        "schedule": {**SCHEDULE, "lr_schedule": "constant", "warmup_iterations": 2, "warmup_ratio": 0.1},
        "evaluation": {"interval": 2},
    },
    "bfloat16": {
        "data": {**SCENES, "size": 32, "target_domain": "comic"},
        "augment": {"flip": 0.5},
        "caption": {"source": "class_names", "encoding": "names"},
        "model": {
            **MODEL,
            "unet_init": "random",
            "attention_maps": "none",
            "adapter": True,
            "head": {"kind": "semantic_fpn", "channels": 16, "loss": "focal"},
        },
        "schedule": {**SCHEDULE, "iterations": 4, "precision": "bfloat16"},
        "evaluation": {"interval": 2},
    },
    "noise": {
        "data": {**SCENES, "size": 32},
        "augment": {"flip": 0.5},
        "caption": {"source": "oracle"},
        "model": {
            **MODEL,
            "timestep": [1, 200],
            "timestep_features": "averaged",
            "noise_samples": 2,
            "layers": ["down0.1", "down1.1", "up1.0", "up2.1", "mid.0"],
            "map_layers": "encoder",
            "head": {"kind": "semantic_fpn", "channels": 16, "classifier_std": 0.1},
        },
        "schedule": SCHEDULE,
        "evaluation": {"interval": 2, "mode": "slide", "crop": 32, "stride": 32, "scales": [1.5], "flip": True},
    },
}


class Recorder:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []

    def report(self, step: int, metrics: Mapping[str, float], checkpoint: Path | None = None) -> None:
        kept = {name: value for name, value in metrics.items() if name != "seconds_per_step"}
        self.steps.append({"step": step, **kept})


def machine() -> dict[str, str]:
    """What decides in which order numbers are added up."""
    file = Path("/proc/cpuinfo")
    pairs = [line.split(":", 1) for line in file.read_text().splitlines() if ":" in line] if file.is_file() else []
    facts = {key.strip(): value.strip() for key, value in pairs}
    asked = ("model name", "stepping", "cache size")
    cpu = ", ".join(facts.get(key, "?") for key in asked) if facts else platform.processor()
    return {"torch": torch.__version__, "capability": torch.backends.cpu.get_cpu_capability(), "cpu": cpu}


def sums(file: Path, fingerprint: str) -> dict[str, float]:
    """What all images add to the score, summed up: where few steps leave a metric at zero, these still move."""
    totals: Counter[str] = Counter()
    for image in read_per_image(file, fingerprint).images:
        for name, value in image.items():
            if name not in ("id", "prompt"):
                totals[f"images/{name}"] += float(np.sum(value))
    return dict(totals)


def size_of(output: Any) -> float:
    """The mean size of what the head makes of an image, later places counting more: one number that anything moves."""
    if not isinstance(output, torch.Tensor):
        output = torch.cat([own["boxes"] * own["scores"][:, None] for own in output])
    flat = output.flatten().double().abs()
    return float((flat * torch.linspace(0.5, 1.5, len(flat), dtype=torch.double)).mean())


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """Trains a case on one thread; every step reports, and the size of every evaluated output is noted."""
    sizes, outputs = [], evaluate.outputs

    def noted(*args: Any) -> Iterator[tuple[int, Any]]:
        for index, output in outputs(*args):
            sizes.append(size_of(output))
            yield index, output

    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    monkeypatch.setattr(evaluate, "outputs", noted)

    def train(name: str) -> dict[str, Any]:
        recipe = Recipe.model_validate({**CASES[name], "compute": {"storage": str(tmp_path), "cpus": 1}})
        digests = {split: open_dataset(recipe.data, split).digest() for split in ("train", "val")}
        digests |= model_digests(recipe)
        cell = Cell(experiment="golden", seed=3, axes={}, recipe=recipe, digests=digests)
        cell.folder.mkdir(parents=True)
        recorder = Recorder()
        final = run(cell, torch.device("cpu"), recorder)
        final = {key: value for key, value in final.items() if key not in COSTS}
        return {
            "steps": recorder.steps,
            "outputs": sizes,
            "final": final | sums(cell.folder / PER_IMAGE, cell.fingerprint),
        }

    return train


@pytest.mark.parametrize("name", CASES)
def test_losses_and_metrics_are_those_that_are_kept(name: str, trained, request: pytest.FixtureRequest) -> None:
    found, file = trained(name), HERE / f"{name}.json"
    if request.config.getoption("--write-golden"):
        file.write_text(json.dumps({"machine": machine(), **found}, indent=1) + "\n")
    kept = json.loads(file.read_text())
    # What a later version measures besides is no difference.
    found["final"] = {key: value for key, value in found["final"].items() if key in kept["final"]}
    if kept.pop("machine") == machine():
        assert found == kept
    else:
        compare_across_machines(found, kept, SAMPLED if name == "detection" else LATER)


def compare_across_machines(found: dict[str, Any], kept: dict[str, Any], later: float) -> None:
    """Metrics of a handful of images jump, so that losses and outputs stand for them."""
    assert found["outputs"] == pytest.approx(kept["outputs"], rel=OUTPUT)
    assert [step["step"] for step in found["steps"]] == [step["step"] for step in kept["steps"]]
    for got, wanted in zip(found["steps"], kept["steps"], strict=True):
        # A record of an evaluation has neither.
        loss = FIRST_LOSS if wanted["step"] == 1 else later
        for key, tolerance in (("learning_rate", EXACT), ("loss", loss)):
            assert (key in got) == (key in wanted)
            assert got.get(key, 0) == pytest.approx(wanted.get(key, 0), rel=tolerance)
    facts = [key for key in kept["final"] if key in FACTS or key.startswith("caption/")]
    assert {key: found["final"][key] for key in facts} == pytest.approx(
        {key: kept["final"][key] for key in facts}, rel=EXACT
    )
