"""Stable Diffusion 2.x, of its published configurations: reduced it loads and is read as by diffusers, whole it is planned."""

import json
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tadp_ray.backbones.stable_diffusion.backbone import StableDiffusionBackbone
from tadp_ray.backbones.stable_diffusion.family import StableDiffusion
from tadp_ray.backbones.stable_diffusion.load import load_diffusion
from tadp_ray.backbones.stable_diffusion_xl.family import StableDiffusionXL
from tadp_ray.config.model import MODELS
from tadp_ray.errors import UserError

UNET = {
    "_class_name": "UNet2DConditionModel",
    "act_fn": "silu",
    "attention_head_dim": [5, 10, 20, 20],
    "block_out_channels": [320, 640, 1280, 1280],
    "cross_attention_dim": 1024,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "dual_cross_attention": False,
    "in_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "only_cross_attention": False,
    "out_channels": 4,
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    "use_linear_projection": True,
}
VERSIONS: dict[str, tuple[dict[str, Any], str]] = {
    "512-base": ({"sample_size": 64}, "epsilon"),
    "768-v": ({"sample_size": 96, "upcast_attention": True}, "v_prediction"),
}
"""What the U-Nets of the versions differ in, and what they predict."""
TEXT = {
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 1,
    "hidden_act": "gelu",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "max_position_embeddings": 77,
    "model_type": "clip_text_model",
    "num_attention_heads": 16,
    "num_hidden_layers": 23,
    "projection_dim": 512,
    "vocab_size": 49408,
}
VAE = {
    "_class_name": "AutoencoderKL",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "latent_channels": 4,
    "layers_per_block": 2,
}
FEATURES = ["up_blocks.3.attentions.2", "up_blocks.2.attentions.1", "up_blocks.1.attentions.1", "up_blocks.0.resnets.1"]
"""diffusers' names of the decoder's layers, largest level first."""


@pytest.fixture(params=VERSIONS)
def reduced(request: pytest.FixtureRequest, tiny_folder: Path, tmp_path: Path) -> tuple[Path, str]:
    """A folder with the same keys and 1/40 of the U-Net's channels, and what it predicts."""
    changes, predicts = VERSIONS[request.param]
    folder = Path(shutil.copytree(tiny_folder, tmp_path / request.param, ignore=shutil.ignore_patterns("tokenizer")))
    # Stable Diffusion 2's tokenizer pads as OpenCLIP's, not with the end of a text.
    tokenizer = CLIPTokenizer.from_pretrained(tiny_folder / "tokenizer", pad_token="!")
    tokenizer.save_pretrained(folder / "tokenizer")
    small = {"hidden_size": 32, "intermediate_size": 64, "vocab_size": len(tokenizer), "max_position_embeddings": 13}
    channels = {"block_out_channels": [40, 80, 160, 160], "norm_num_groups": 4, "cross_attention_dim": 32}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        UNet2DConditionModel.from_config(UNET | changes | channels).save_pretrained(folder / "unet")
        CLIPTextModel(CLIPTextConfig(**TEXT | small)).save_pretrained(folder / "text_encoder")
    DDIMScheduler(prediction_type=predicts, steps_offset=1).save_pretrained(folder / "scheduler")
    return folder, predicts


@torch.no_grad()
def test_features_are_those_of_a_plain_forward_pass(reduced: tuple[Path, str]) -> None:
    folder, predicts = reduced
    diffusion = load_diffusion(str(folder))
    assert diffusion.schedule.sampler.config.prediction_type == predicts
    assert diffusion.text_encoder.config.num_hidden_layers == 23 and diffusion.tokenizer.pad_token_id == 0
    text = diffusion.tokenizer(["a red ox"], padding="max_length", max_length=13, return_tensors="pt")
    context = CLIPTextModel.from_pretrained(folder / "text_encoder")(text.input_ids).last_hidden_state
    latents = torch.randn(1, 4, 16, 24, generator=torch.Generator().manual_seed(1))
    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    seen: dict[str, Tensor] = {}
    with ExitStack() as hooks:
        for name in FEATURES:

            def keep(_: object, __: object, output: Any, name: str = name) -> None:
                seen[name] = output if isinstance(output, Tensor) else output[0]

            hooks.callback(unet.get_submodule(name).register_forward_hook(keep).remove)
        unet(latents, 1, context)
    backbone = StableDiffusionBackbone(diffusion, MODELS["stable_diffusion"](), diffusion.tokens)
    assert backbone.channels == (40, 80 + 13, 160 + 13, 160) and backbone.context_width == 32
    for level, name in zip(backbone(latents, context), FEATURES, strict=True):
        expected = seen[name]
        torch.testing.assert_close(level[:, : expected.shape[1]], expected)


@pytest.fixture
def described(tmp_path: Path) -> Path:
    """A folder with the published configurations of 768-v, without weights."""
    for part, config in (
        ("unet", UNET | VERSIONS["768-v"][0]),
        ("vae", VAE),
        ("text_encoder", TEXT),
        ("tokenizer", {}),
    ):
        (tmp_path / part).mkdir()
        (tmp_path / part / "config.json").write_text(json.dumps(config))
    return tmp_path


@pytest.mark.slow
def test_configurations_without_weights_suffice_for_a_plan(planned, parameters, described: Path) -> None:
    """865.9 M parameters of the U-Net without its last convolution, which is not run, and 340.4 M of OpenCLIP's 23 layers."""
    said = planned(weights=str(described))
    assert f"weights: {described} holds configurations alone; using their sizes" in said
    assert (parameters("backbone", said), parameters("text encoder", said)) == ("865,898,560", "340,387,840")


@pytest.mark.slow
def test_stable_diffusion_xl_is_planned_without_files(planned, parameters, tmp_path: Path) -> None:
    """2567.5 M parameters of the U-Net without its last convolution; 123.1 M and 694.7 M of the text encoders."""
    said = planned(backbone="stable_diffusion_xl", weights=str(tmp_path / "none"))
    assert "none is missing; using the sizes of Stable Diffusion XL 1.0" in said
    assert (parameters("backbone", said), parameters("text encoder", said)) == ("2,567,451,520", "817,720,320")
    assert "GFLOP" in said and "MiB of activations" in said


def test_configurations_that_do_not_fit_are_refused_before_compute(described: Path) -> None:
    config = MODELS["stable_diffusion"](weights=str(described))
    changed = UNET | {"cross_attention_dim": 768, "sample_size": 64}
    (described / "unet/config.json").write_text(json.dumps(changed))
    with pytest.raises(
        UserError, match=r"cross_attention_dim 768, not 1024 \(the text encoder's hidden_size\); put unet/"
    ):
        StableDiffusion.sizes(config)
    (described / "unet/config.json").write_text(json.dumps(changed | {"addition_embed_type": "text_time"}))
    for ask in (StableDiffusion.sizes, StableDiffusion.digests):
        with pytest.raises(
            UserError, match=r"holds a Stable Diffusion XL, .* set model\.backbone: stable_diffusion_xl"
        ):
            ask(config)
    with pytest.raises(UserError, match="lacks text_encoder_2, tokenizer_2"):
        StableDiffusionXL.sizes(MODELS["stable_diffusion_xl"](backbone="stable_diffusion_xl", weights=str(described)))
