"""Stable Diffusion 1.5's layout, shrunken and random: it predicts noise, where the pocket model predicts velocity."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel

from tadp_ray.backbones.latent.weights import locate
from tadp_ray.config.personalization import Personalization
from tadp_ray.paper.personalization.job import PersonalizationJob
from tadp_ray.paper.personalization.run import make_job


@pytest.fixture(scope="session")
def sd15(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder with Stable Diffusion 1.5's blocks, scheduler and context length, a hundredth as wide."""
    folder = tmp_path_factory.mktemp("sd15")
    shutil.copytree(locate("pocket") / "tokenizer", folder / "tokenizer")
    words = len(json.loads((folder / "tokenizer/vocab.json").read_text()))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        text = CLIPTextConfig(
            vocab_size=words,
            hidden_size=24,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            bos_token_id=words - 2,
            eos_token_id=words - 1,
            pad_token_id=words - 1,
        )
        parts = {
            "vae": AutoencoderKL(
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                block_out_channels=(4, 8, 8, 8),
                norm_num_groups=4,
            ),
            "unet": UNet2DConditionModel(
                block_out_channels=(8, 16, 16, 16),
                norm_num_groups=4,
                cross_attention_dim=24,
                attention_head_dim=2,
                sample_size=8,
            ),
            "text_encoder": CLIPTextModel(text),
        }
    for name, network in parts.items():
        network.save_pretrained(folder / name)
    PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
    ).save_pretrained(folder / "scheduler")
    return folder


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images of noise, of different sizes."""
    folder, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for number in range(4):
        pixels = rng.integers(0, 256, (70 + number, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


Prepare = Callable[..., PersonalizationJob]


@pytest.fixture
def prepare(sd15: Path, photographs: Path, tmp_path: Path) -> Prepare:
    """`prepare("out", method={...}, schedule={...})`: a job on the small model, whose groups are changed by keyword."""

    def make(out: str = "out", **changes: Any) -> PersonalizationJob:
        values: dict[str, Any] = {
            "method": {"kind": "textual_inversion", "token": "<noise>", "initializer_token": "photo"},
            "weights": str(sd15),
            "images": {"kind": "folder", "files": f"{photographs}/*.png", "count": 3, "size": 64},
            "schedule": {"iterations": 4, "batch_size": 2, "micro_batch": 1, "learning_rate": 0.01},
            "modifier": "a <noise> style photo of {caption}",
            "sample_modifier": None,
            "samples": ["car grass"],
            "compute": {"checkpoint_every": 2},
        }
        merged = {
            key: value | changes.get(key, {})
            if isinstance(value, dict) and changes.get(key, {}).get("kind", value.get("kind")) == value.get("kind")
            else changes.get(key, value)
            for key, value in values.items()
        }
        return make_job(Personalization.model_validate(merged), 0, tmp_path / out)

    return make
