"""A random Stable Diffusion of the smallest size that has every part of the real one."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel
from transformers.convert_slow_tokenizer import bytes_to_unicode
from transformers.models.clip.tokenization_clip import CLIPTokenizer

from tadp_ray.models.diffusion import Diffusion, load_diffusion


def by_one_and_two(program: Path, folder: Path, *words: object) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What a program writes into the file that is its last argument, run by one process and by two of torchrun's."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    files = [folder / f"{processes}.safetensors" for processes in (1, 2)]
    running = [
        subprocess.Popen(
            [*launch, str(processes), *map(str, (program, *words, file))], stderr=subprocess.PIPE, text=True
        )
        for processes, file in zip((1, 2), files, strict=True)
    ]
    for process in running:
        _, errors = process.communicate(timeout=900)
        assert process.returncode == 0, errors
    one, two = map(load_file, files)
    assert one.keys() == two.keys()
    return one, two


@pytest.fixture
def one_and_two() -> Callable[..., tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """`one_and_two(program, folder, *words)`: the results of one process and of two."""
    return by_one_and_two


LENGTH = 13
"""Tokens of a context; not a size of anything else, so that mixed-up axes cannot fit."""


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder: VAE of factor 2, four-level U-Net, text encoder, tokenizer whose tokens are single bytes."""
    folder = tmp_path_factory.mktemp("tiny")
    letters = list(bytes_to_unicode().values())
    marks = ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: i for i, token in enumerate([*letters, *(f"{letter}</w>" for letter in letters), *marks])}
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer/vocab.json").write_text(json.dumps(vocabulary))
    (folder / "tokenizer/merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer/tokenizer_config.json").write_text(json.dumps({"model_max_length": LENGTH}))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            block_out_channels=(8, 16, 24, 32),
            layers_per_block=2,
            norm_num_groups=4,
            attention_head_dim=2,
            cross_attention_dim=20,
            sample_size=16,
        )
        vae = AutoencoderKL(
            block_out_channels=(8, 8),
            norm_num_groups=4,
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
        )
        text = CLIPTextConfig(
            vocab_size=len(vocabulary),
            hidden_size=20,
            intermediate_size=40,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=LENGTH,
            bos_token_id=vocabulary[marks[0]],
            eos_token_id=vocabulary[marks[1]],
            pad_token_id=vocabulary[marks[1]],
        )
        text_encoder = CLIPTextModel(text)
    for name, network in (("unet", unet), ("vae", vae), ("text_encoder", text_encoder)):
        network.save_pretrained(folder / name)
    assert len(CLIPTokenizer.from_pretrained(folder / "tokenizer")) == len(vocabulary)
    return folder


@pytest.fixture(scope="session")
def tiny_diffusion(tiny_folder: Path) -> Diffusion:
    """The tiny Stable Diffusion, loaded; tests must not change it."""
    return load_diffusion(str(tiny_folder))
