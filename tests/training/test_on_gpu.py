"""A training on a GPU keeps every tensor where it is used, and computes what a CPU computes. The GPU is a pretended one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tadp_ray.conditioning import text_encoder
from tadp_ray.config.cell import Cell
from tadp_ray.data.sample import Sample
from tadp_ray.layout import MODEL
from tadp_ray.training.any_image import given_prompt, predict_image
from tadp_ray.training.predict import load_cell, predict_cell
from tadp_ray.training.run import train_cell
from tadp_ray.training.setup import Cache, TrainSetup
from tests.fixtures.cells import losses

SHORT = {"iterations": 3, "warmup_iterations": 0}
BFLOAT16 = {**SHORT, "precision": "bfloat16"}
DEPTH = {"attention_maps": "none", "head": {"kind": "vpd_depth", "fused": 32, "channels": 16, "max_depth": 80}}
WINDOWS = {"mode": "slide", "crop": 32, "stride": 16, "resize": 48, "multi_scale": [1.0, 1.5]}
SETTINGS: dict[str, dict[str, Any]] = {
    "timesteps, noise and micro-batches": {
        "model": {"timestep": [1, 200], "noise_samples": 2},
        "schedule": {**SHORT, "micro_batch": 2},
    },
    "class embeddings": {
        "caption": {"source": "class_names", "encoding": "class_embeddings"},
        "model": {"head": {"kind": "smp_fpn"}},
    },
    "bfloat16, LoRA and a text adapter": {
        "schedule": BFLOAT16,
        "model": {"trainable": "lora", "adapter": True, "feature_norm": True},
        "compute": {"gradient_checkpointing": True},
    },
    "depth in bfloat16": {"task": "depth", "model": {"weights": "pocket", **DEPTH}, "schedule": BFLOAT16},
    "detection in bfloat16": {"task": "detection", "model": {"head": {"kind": "faster_rcnn"}}, "schedule": BFLOAT16},
    "crops, windows and several sizes": {
        "evaluation": WINDOWS,
        "augment": {"resize": 48, "crop": 32, "colour": "mmseg"},
    },
    "other styles and captions": {
        "data": {"extra_styles": ["night"]},
        "model": {"attention_maps": "none"},
        "evaluation": {"captions": {"none": {"source": "null"}}},
    },
}


def train_on(device: torch.device, cell: Cell, output: Path) -> None:
    """Train a cell, predict its images again, and predict a new one."""
    train_cell(cell, device)
    assert predict_cell(cell, cell.folder / MODEL, output, device) == 5
    model, setup, _ = load_cell(cell, cell.folder / MODEL, device)
    if cell.recipe.caption.encoding == "text":
        prompt = given_prompt(setup, "a red cow") if setup.recipe.model.context.reads_text else None
        predict_image(model, setup, Sample("mine", setup.val[0].image), prompt, device)


def compare(device: torch.device, tiny_cell: Callable[..., Cell], folder: Path, **changes: Any) -> None:
    """Train a cell on a GPU and on a CPU; the losses must be the same, but for rounding."""
    changes = {"schedule": SHORT, **changes}
    there, here = (tiny_cell(folder / name, **changes) for name in ("gpu", "cpu"))
    train_on(device, there, folder / "predicted")
    train_cell(here, torch.device("cpu"))
    # A GPU's VAE computes in bfloat16 throughout, a CPU's by autocast.
    rounding = 0.03 if there.recipe.schedule.precision == "bfloat16" else 1e-5
    assert losses(there) == pytest.approx(losses(here), rel=rounding)


@pytest.mark.slow
@pytest.mark.parametrize("changes", SETTINGS.values(), ids=SETTINGS)
def test_every_setting_trains_as_on_a_cpu(
    changes: dict[str, Any], tiny_cell: Callable[..., Cell], gpu: torch.device, tmp_path: Path
) -> None:
    compare(gpu, tiny_cell, tmp_path, **changes)


@pytest.mark.slow
def test_learned_vectors_and_an_image_train_as_on_a_cpu(
    tiny_cell: Callable[..., Cell], gpu: torch.device, tiny_vision: Path, tmp_path: Path
) -> None:
    image = {"kind": "image", "encoder": str(tiny_vision / "clip"), "count": 2}
    model = {"context": {"sources": [{"kind": "learned", "count": 3}, image]}}
    compare(gpu, tiny_cell, tmp_path, model=model, caption={"source": "null"})


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["stable_diffusion_xl", "pixart"])
def test_other_families_train_as_on_a_cpu(
    backbone: str, tiny_cell: Callable[..., Cell], gpu: torch.device, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    weights = {"stable_diffusion_xl": "tiny_xl_folder", "pixart": "tiny_pixart_alpha_folder"}[backbone]
    model = {"backbone": backbone, "weights": str(request.getfixturevalue(weights)), "noise_samples": 1}
    compare(gpu, tiny_cell, tmp_path, model=model, caption={"source": "class_names"})


@pytest.mark.slow
def test_the_text_encoder_leaves_the_gpu_before_the_first_step(
    tiny_cell: Callable[..., Cell], gpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And comes back for captions that no cell has encoded."""
    cache, devices, encode = Cache(), [], text_encoder.encode_prompts

    def encode_prompts(tokenizer: Any, encoder: Any, prompts: Any) -> torch.Tensor:
        devices.append(encoder.device.type)
        return encode(tokenizer, encoder, prompts)

    monkeypatch.setattr(text_encoder, "encode_prompts", encode_prompts)
    for recall in (1, 0.5):
        cell = tiny_cell(caption={"recall": recall}, schedule=SHORT)
        train_cell(cell, gpu, cache=cache)
        assert TrainSetup(cell.recipe, 0, cache=cache).pretrained.text_encoder.device.type == "cpu"
        assert {*devices} == {"cuda"}, recall
        devices.clear()
