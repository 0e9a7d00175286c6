"""A short pretraining gives a Stable Diffusion that diffusers loads; the shipped one listens to its caption."""

import re
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from transformers import CLIPTokenizer

from tadp_ray.data.scenes import CLASSES
from tadp_ray.training.pretrain import draw_caption, measure, pretrain
from tadp_ray.training.tokenizer import write_tokenizer

SHIPPED = Path(str(files("tadp_ray") / "assets" / "pocket"))


def test_short_pretraining_is_a_stable_diffusion(tmp_path: Path) -> None:
    """Two processes and two steps of each stage: every part is there, and the loaded parts fit one another."""
    pretrain(
        tmp_path, images=16, vae_steps=2, unet_steps=2, processes=2, batch=4, size=32, channels=(8, 8, 16, 16), seed=3
    )
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path, safety_checker=None)
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    assert pipeline.tokenizer.model_max_length == 77
    assert {p.dtype for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder) for p in part.parameters()} == {
        torch.float32
    }
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("a photo of a car and sand", num_inference_steps=2, output_type="np").images
    assert image.shape == (1, 32, 32, 3)


def test_batch_that_does_not_divide_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="multiple of 2 x processes = 6, not 32"):
        pretrain(tmp_path, processes=3)


def test_listed_words_are_single_tokens_and_any_text_survives(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path, model_max_length=77)
    for word in (*CLASSES, "building", "pavement", "bicyclist", "photo"):
        assert len(tokenizer.tokenize(word)) == 1
    text = "zürich: 37 unlisted words & 日本"
    ids = tokenizer(text).input_ids
    assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == text.replace(" ", "")


def test_pretraining_captions_name_the_visible_classes_or_nothing() -> None:
    rng = np.random.default_rng(0)
    captions = [draw_caption(("sky", "sand", "car"), rng) for _ in range(500)]
    for caption in captions:
        assert set(re.findall("|".join(CLASSES), caption)) in (set(), {"sky", "sand", "car"})
    assert 0.06 < captions.count("") / 500 < 0.14


def test_shipped_model_listens_to_its_caption() -> None:
    """On fresh scenes the gate shows at least half of what the model's card prints, at every timestep."""
    _, table = measure(SHIPPED, count=64, seed=2)
    row = re.search(r"^\| look-alike \|(.*)\|$", (SHIPPED / "README.md").read_text(), re.MULTILINE)
    printed = [float(value) for value in re.findall(r"\+([\d.]+)%", row[1])]
    assert len(printed) == 3
    for time, value in zip((300, 500, 700), printed, strict=True):
        assert table["look-alike", time][0] > value / 2
