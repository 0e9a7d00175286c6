"""`analyze attention` takes any picture and any prompt that fits, and says what is wrong with others."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel
from typer.testing import CliRunner

from tadp_ray.backbones.stable_diffusion.load import load_diffusion
from tadp_ray.cli import app
from tadp_ray.data.images import read_image
from tadp_ray.data.pixels import to_tensor
from tadp_ray.data.scenes import CLASSES, render
from tadp_ray.paper.analysis.attention import attend, average, fitted, image_latents, word_maps
from tadp_ray.training.checkpoint import read_tensors


def invoke(*words: object):
    """Run a command in this process."""
    return CliRunner().invoke(app, ["analyze", "attention", *map(str, words)])


@pytest.fixture
def scene(tmp_path: Path) -> tuple[Path, Path, str]:
    """A scene's picture, the pixels of its nearest thing, and the thing's name."""
    sample = render("pretrain", 1_000_000, 3)
    name = CLASSES[sample.box_classes[0]]
    Image.fromarray(sample.image).save(tmp_path / "scene.png")
    Image.fromarray(255 * (sample.instances == 1).astype(np.uint8)).save(tmp_path / "thing.png")
    return tmp_path / "scene.png", tmp_path / "thing.png", name


def test_maps_figures_and_pictures_of_a_scene(scene: tuple[Path, Path, str], tmp_path: Path) -> None:
    image, truth, name = scene
    flags = ["--word", name, "--mask", f"{name}={truth}", "--out", tmp_path / "out"]
    result = invoke(image, f"a photo of a {name} and sky", *flags)
    assert result.exit_code == 0, result.output
    told = json.loads((tmp_path / "out/maps.json").read_text())
    place = told["words"][name]["localisation"]
    assert place["16 x 16"]["pointing"] == 1 and place["16 x 16"]["average_precision"] > 2 * place["16 x 16"]["chance"]
    assert list(told["words"]) == [name] and told["tokens"][0] == "<|startoftext|>"
    maps, facts = read_tensors(tmp_path / "out/maps.safetensors")
    assert len(maps) == 16 and maps["up0.2"].shape == (2, len(facts["tokens"]), 16, 16)
    assert (tmp_path / "out/maps.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "out/maps.pdf").read_bytes()[:4] == b"%PDF"


def test_the_map_of_a_word_is_the_mean_over_its_tokens() -> None:
    layers = {"small": torch.rand(2, 3, 5, 4, 4), "large": torch.rand(2, 3, 5, 8, 8)}
    whole = average(layers, (16, 16))
    found = word_maps(layers, {"ox": [1], "ice cream": [2, 4]}, (16, 16))
    np.testing.assert_allclose(found["ox"], whole[:, 1], rtol=1e-5)
    np.testing.assert_allclose(found["ice cream"], (whole[:, 2] + whole[:, 4]) / 2, rtol=1e-5)
    assert word_maps(layers, {}, (16, 16)) == {}


def test_bad_input_is_refused_in_one_message(scene: tuple[Path, Path, str], tmp_path: Path) -> None:
    image, truth, name = scene
    small = tmp_path / "small.png"
    Image.new("L", (5, 4), 255).save(small)
    for words, said in (
        ((image, "a cat", "--word", "dog"), "'dog' is not in the prompt; its words are a, cat"),
        ((image, "a cat", "--mask", f"dog={truth}"), "'dog' is not in the prompt"),
        ((image, "cat " * 80), "has 80 tokens, and the text encoder reads 75"),
        ((image, " "), "the prompt has no words"),
        ((image, "a cat", "--mask", truth), "expected WORD=PICTURE"),
        ((image, "a cat", "--mask", f"cat={small}"), "is 5 x 4, but the image is 64 x 64"),
        ((tmp_path / "none.png", "a cat"), "none.png: there is no such file"),
    ):
        result = invoke(*words, "--out", tmp_path / "out")
        assert result.exit_code == 2 and said in result.stderr, result.output
    assert not (tmp_path / "out").exists()


def test_an_image_of_any_size_becomes_one_that_the_unet_can_halve() -> None:
    sizes = {(64, 64): (64, 64), (1, 1): (64, 64), (100, 150): (64, 96), (5, 4000): (64, 128), (4000, 5): (128, 64)}
    for (height, width), wanted in sizes.items():
        assert fitted(np.zeros((height, width, 3), np.uint8), 64, 32).shape == (*wanted, 3)


def test_pixels_are_of_the_range_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published tool gives the VAE pixels in [0, 1]."""
    monkeypatch.setattr("tadp_ray.paper.analysis.attention.mean_latents", lambda _, pixels: pixels)
    image = np.zeros((8, 8, 3), np.uint8)
    image[4:] = 255
    diffusion = load_diffusion("pocket")
    signed, unit = (image_latents(diffusion, [image], kind) for kind in ("signed", "unit"))
    assert signed.unique().tolist() == [-1, 1] and unit.unique().tolist() == [0, 1]
    assert torch.equal(image_latents(diffusion, [image]), signed)


@pytest.mark.slow
def test_an_image_of_any_mode_is_looked_at(tmp_path: Path) -> None:
    for mode in ("RGBA", "L", "P", "1", "CMYK", "LA"):
        file = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
        Image.new("RGB", (9, 7), "red").convert(mode).save(file)
        found = attend(load_diffusion("pocket"), read_image(file), "a red car", ["car"])
        assert found.words["car"].shape == (7, 9) and np.isfinite(found.words["car"]).all()


@pytest.mark.slow
def test_photographs_go_through_the_real_tokenizer_and_taesd(shared: Path, tmp_path: Path) -> None:
    """A real photograph, tokenizer and (tiny) autoencoder, with random weights of the real U-Net's layout, made narrow."""
    shutil.copytree(shared / "data/weights/taesd_diffusers", tmp_path / "vae")
    shutil.copytree(shared / "data/weights/clip_tokenizer_hf", tmp_path / "tokenizer")
    torch.manual_seed(0)
    marks = {"bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407}
    text = CLIPTextConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, **marks)
    narrow = {"block_out_channels": (8, 8, 16, 16), "norm_num_groups": 4, "attention_head_dim": 2}
    CLIPTextModel(text).save_pretrained(tmp_path / "text_encoder")
    UNet2DConditionModel(sample_size=64, cross_attention_dim=32, **narrow).save_pretrained(tmp_path / "unet")
    photograph = read_image(shared / "data/tadp/demo/segmentation_example.jpg")
    diffusion = load_diffusion(str(tmp_path))

    found = attend(diffusion, photograph, "a bird and a dining table", ["dining table"])
    assert found.tokens[1:-1] == ("a</w>", "bird</w>", "and</w>", "a</w>", "dining</w>", "table</w>")
    assert found.places == {"dining table": (5, 6)} and len(found.layers) == 16
    assert min(found.layers["down0.0"].shape[-2:]) == 64
    assert found.words["dining table"].shape == photograph.shape[:2]

    part = photograph[:256, :256]
    drawn = diffusion.vae.decode(image_latents(diffusion, [part])).sample[0]
    assert float((drawn - to_tensor(part)).square().mean()) < 4 * 10**-2.2  # 22 dB
