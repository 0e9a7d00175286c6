"""Random captioners of the published architectures: what is said depends on the image alone, and is as long as asked."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tadp_ray.captions.captioner import Captioner, CaptionerSettings, identify
from tadp_ray.errors import UserError

CPU = torch.device("cpu")


@pytest.mark.parametrize("model", ["tiny_blip", "tiny_blip2"])
def test_captions(model: str, request: pytest.FixtureRequest) -> None:
    settings = CaptionerSettings("blip", str(request.getfixturevalue(model)), max_tokens=8)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (20 + 3 * i, 30, 3), dtype=np.uint8) for i in range(5)]
    captioner = Captioner(settings, CPU)
    texts = captioner(images)
    assert len(set(texts)) > 1 and all(len(text.split()) <= 8 for text in texts)
    assert [captioner([image])[0] for image in images] == texts
    longer = Captioner(replace(settings, min_tokens=6, max_tokens=6), CPU)(images)
    assert min(len(text.split()) for text in texts) < 6 and max(len(text.split()) for text in longer) == 6
    cut = Captioner(replace(settings, cut_last_character=True), CPU)(images)
    assert cut == [text[:-1] for text in texts]


def test_a_gpu_says_what_a_cpu_says(tiny_blip2: Path, gpu: torch.device) -> None:
    """The GPU is a pretended one."""
    settings = CaptionerSettings("blip", str(tiny_blip2), max_tokens=8)
    images = np.random.default_rng(0).integers(0, 256, (5, 30, 20, 3), dtype=np.uint8)
    there, here = (Captioner(settings, device)([*images]) for device in (gpu, CPU))
    assert there == here and len(set(here)) > 1


@pytest.mark.parametrize(
    "changed",
    [{"min_tokens": 20}, {"max_tokens": 40}, {"batch": 8}, {"dtype": "float16"}, {"cut_last_character": True}],
)
def test_a_captioner_is_known_by_its_settings(tiny_blip: Path, changed: dict[str, Any]) -> None:
    settings = CaptionerSettings("blip", str(tiny_blip))
    assert identify(replace(settings, **changed)) != identify(settings)


def test_a_captioner_is_known_by_its_files(tiny_blip: Path, tmp_path: Path) -> None:
    settings = CaptionerSettings("blip", str(tiny_blip))
    moved = Path(shutil.copytree(tiny_blip, tmp_path / "moved"))
    here = identify(settings)
    assert identify(replace(settings, model=str(moved))) == here
    tensors = load_file(moved / "model.safetensors")
    del tensors["text_decoder.cls.predictions.transform.dense.bias"]
    save_file(tensors, moved / "model.safetensors", {"format": "pt"})
    lacking = replace(settings, model=str(moved))
    assert identify(lacking) != here
    with pytest.raises(UserError, match=r"weights lack 1 tensor .*transform\.dense\.bias"):
        Captioner(lacking, CPU)
    (moved / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="a bert does not turn an image into text"):
        identify(lacking)
    (moved / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"lacks \*\.safetensors; a captioner's folder holds"):
        identify(lacking)
