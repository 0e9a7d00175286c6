"""Features at several timesteps and with noise are those of plain passes of the U-Net, combined."""

import json
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor

from tadp_ray.backbones.latent.denoising import build_schedule
from tadp_ray.backbones.stable_diffusion.backbone import StableDiffusionBackbone
from tadp_ray.backbones.stable_diffusion.family import StableDiffusion
from tadp_ray.backbones.stable_diffusion.features import unet_features
from tadp_ray.backbones.stable_diffusion.load import Diffusion, load_diffusion
from tadp_ray.config.model import MODELS
from tadp_ray.errors import UserError

SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
"""Stable Diffusion's, in diffusers' words."""
TOKENS = 7
close = partial(torch.testing.assert_close, atol=1e-5, rtol=1e-4)


@pytest.fixture
def scheduled(tiny_diffusion: Diffusion) -> Diffusion:
    """The tiny Stable Diffusion with the noise schedule of the real one."""
    return replace(tiny_diffusion, weights="")


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Latents (2, 4, 16, 24), contexts (2, L, D), and two samples of noise for each (2, 2, 4, 16, 24)."""
    rng = torch.Generator().manual_seed(1)
    sizes = ((2, 4, 16, 24), (2, TOKENS, 20), (2, 2, 4, 16, 24))
    latents, context, noise = (torch.randn(size, generator=rng) for size in sizes)
    return latents, context, noise


def backbone_of(diffusion: Diffusion, **keys: Any) -> StableDiffusionBackbone:
    return StableDiffusionBackbone(diffusion, MODELS["stable_diffusion"](**keys), TOKENS, (16, 24))


def plain_features(unet: UNet2DConditionModel, latents: Tensor, time: int, context: Tensor) -> list[Tensor]:
    """The published four levels by hooks, without attention maps."""
    blocks, seen = unet.up_blocks, []
    layers = [blocks[0].resnets[1], *(blocks[place].attentions[index] for place, index in ((1, 1), (2, 1), (3, 2)))]
    with ExitStack() as hooks:
        for layer in layers:
            keep = lambda _, __, output: seen.append(output if isinstance(output, Tensor) else output[0])
            hooks.callback(layer.register_forward_hook(keep).remove)
        unet(latents, time, context)
    return seen[::-1]


def combined(passes: list[list[list[Tensor]]], combine: str) -> list[Tensor]:
    """Features by timestep, sample of noise and level, combined in each level."""
    levels = []
    for level in range(4):
        means = [torch.stack([features[level] for features in samples]).mean(0) for samples in passes]
        levels.append(torch.cat(means, 1) if combine == "concatenated" else torch.stack(means).mean(0))
    return levels


@pytest.mark.parametrize("combine", ["concatenated", "averaged"])
@pytest.mark.parametrize("samples", [0, 1, 2])
@torch.no_grad()
def test_features_are_those_of_diffusers_passes(scheduled: Diffusion, inputs, combine: str, samples: int) -> None:
    """Noise is added by diffusers' own scheduler, one image, timestep and sample after another."""
    latents, context, noise = inputs
    times = (1, 100, 700)
    keys = {"timestep": times, "timestep_features": combine, "noise_samples": samples, "attention_maps": "none"}
    backbone, scheduler = backbone_of(scheduled, **keys), DDIMScheduler(**SCHEDULE)
    passes = []
    for time in times:
        noised = [
            scheduler.add_noise(latents, noise[:, sample], torch.tensor([time])) if samples else latents
            for sample in range(samples or 1)
        ]
        passes.append([plain_features(scheduled.unet, each, time, context) for each in noised])
    found = backbone(latents, context, noise[:, :samples] if samples else None)
    assert tuple(level.shape[1] for level in found) == backbone.channels
    assert backbone.channels[0] == scheduled.unet.config.block_out_channels[0] * (3 if combine == "concatenated" else 1)
    for level, expected in zip(found, combined(passes, combine), strict=True):
        close(level, expected)


@torch.no_grad()
def test_each_timestep_brings_its_own_attention_maps(tiny_diffusion: Diffusion, inputs) -> None:
    latents, context, _ = inputs
    backbone = backbone_of(tiny_diffusion, timestep=[1, 700], attention_maps="cross+self")
    read = partial(unet_features, tiny_diffusion.unet, latents, context=context, maps="cross+self")
    early, late = (read(timesteps=torch.full((2,), time)) for time in (1, 700))
    found = backbone(latents, context)
    assert tuple(level.shape[1] for level in found) == backbone.channels
    for level, *both in zip(found, early, late, strict=True):
        close(level, torch.cat(both, 1))
    assert not torch.equal(early[1], late[1])


def test_several_passes_train_every_parameter(scheduled: Diffusion, inputs) -> None:
    backbone = backbone_of(scheduled, timestep=[1, 500], noise_samples=2)
    features = backbone(*inputs)
    sum(level.square().mean() for level in features).backward()
    assert [name for name, p in backbone.named_parameters() if p.grad is None] == []


def test_noise_is_diffusers_to_the_bit() -> None:
    scheduler, schedule = DDIMScheduler(**SCHEDULE), build_schedule("epsilon")
    latents, noise = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    for time in (0, 1, 500, 999):
        kept, added = schedule.scales(time)
        expected = scheduler.add_noise(latents, noise, torch.tensor([time] * 3))
        assert torch.equal(kept * latents + added * noise, expected)


@pytest.fixture
def with_schedule(tiny_folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes the tiny Stable Diffusion with a noise schedule."""

    def write(name: str, **settings: Any) -> Path:
        folder = Path(shutil.copytree(tiny_folder, tmp_path / name))
        DDIMScheduler(**{**SCHEDULE, **settings}).save_pretrained(folder / "scheduler")
        return folder

    return write


def test_noise_follows_the_schedule_of_the_folder(with_schedule, inputs) -> None:
    """And its file is hashed, but only for cells that add noise."""
    latents, context, noise = inputs
    found, hashes = [], []
    for name, end in (("weak", 0.002), ("strong", 0.02)):
        folder = with_schedule(name, beta_end=end)
        keys = {"weights": str(folder), "timestep": 300, "noise_samples": 2}
        found.append(backbone_of(load_diffusion(str(folder)), **keys)(latents, context, noise)[0])
        config = MODELS["stable_diffusion"](**keys)
        hashes.append(StableDiffusion.digests(config))
        assert StableDiffusion.places(config).keys() == hashes[-1].keys() == {"weights", "schedule"}
        clean = MODELS["stable_diffusion"](weights=str(folder))
        assert StableDiffusion.digests(clean) == {"weights": hashes[-1]["weights"]}
    assert not torch.allclose(*found, atol=1e-3)
    assert hashes[0]["weights"] == hashes[1]["weights"] and hashes[0]["schedule"] != hashes[1]["schedule"]


def test_a_model_without_a_schedule_or_with_a_short_one_takes_no_noise(with_schedule, tiny_folder: Path) -> None:
    short = with_schedule("short", num_train_timesteps=200)
    assert json.loads((short / "scheduler/scheduler_config.json").read_text())["num_train_timesteps"] == 200
    clean = backbone_of(load_diffusion(str(short)), timestep=[1, 200])
    assert clean.noise_samples == 0
    with pytest.raises(UserError, match=r"model.timestep=200: .* ends at 199 .*; name a smaller timestep"):
        backbone_of(load_diffusion(str(short)), timestep=[1, 200], noise_samples=1)
    backbone_of(load_diffusion(str(short)), timestep=199, noise_samples=1)
    with pytest.raises(UserError, match="scheduler_config.json is missing: .* name a whole diffusers folder"):
        backbone_of(load_diffusion(str(tiny_folder)), noise_samples=1)
    with pytest.raises(UserError, match="scheduler_config.json is missing"):
        StableDiffusion.digests(MODELS["stable_diffusion"](weights=str(tiny_folder), noise_samples=1))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"timestep": [1, 100, 1]}, r"timestep: \[1, 100, 1\] names a timestep twice"),
        ({"timestep": []}, "at least 1"),
        ({"timestep": [1, 1000]}, "less than 1000"),
        (
            {"timestep": 7, "timestep_features": "averaged"},
            "averaged combines several timesteps, and timestep: 7 is one",
        ),
        ({"timestep": [7], "timestep_features": "averaged"}, "averaged combines several timesteps"),
        ({"noise_samples": 2, "latent": "vpd"}, "noise_samples: 2 adds .* not of latent.scale: raw; use scaled"),
        ({"noise_samples": -1}, "greater than or equal to 0"),
    ],
)
def test_keys_that_fit_nothing_are_refused(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        MODELS["stable_diffusion"](**keys)


def test_a_list_of_one_timestep_is_that_timestep() -> None:
    """So that the same training has one fingerprint."""
    one = MODELS["stable_diffusion"](timestep=[100])
    assert one == MODELS["stable_diffusion"](timestep=100) and one.timestep == 100
