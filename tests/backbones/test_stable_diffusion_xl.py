"""Stable Diffusion XL is read as diffusers runs it: contexts, features, attention maps, and folders that do not fit."""

import json
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file
from torch import Tensor

from tadp_ray.backbones.stable_diffusion.attention import cross_layers
from tadp_ray.backbones.stable_diffusion.backbone import StableDiffusionBackbone
from tadp_ray.backbones.stable_diffusion.layers import named_layers
from tadp_ray.backbones.stable_diffusion.load import load_diffusion
from tadp_ray.backbones.stable_diffusion_xl.family import StableDiffusionXL
from tadp_ray.backbones.stable_diffusion_xl.load import DiffusionXL, load_diffusion_xl
from tadp_ray.backbones.stable_diffusion_xl.weights import digest_xl
from tadp_ray.conditioning.text_encoder import count_tokens, encode_names, encode_prompts
from tadp_ray.config.model import MODELS
from tadp_ray.errors import UserError
from tadp_ray.tasks.segmentation.config import SemanticFPNConfig
from tadp_ray.training.model import TADP

LENGTH, WIDTH, POOLED = 13, 32, 14
FEATURES = {"up0.2": "up_blocks.2.resnets.2", "up1.1": "up_blocks.1.attentions.1", "up2.1": "up_blocks.0.attentions.1"}
"""diffusers' names of the modules that the decoder's layers are, largest level first."""


@pytest.fixture(scope="module")
def xl(tiny_xl_folder: Path) -> DiffusionXL:
    """The tiny Stable Diffusion XL, loaded; tests must not change it."""
    return load_diffusion_xl(str(tiny_xl_folder))


@pytest.fixture(scope="module")
def pipeline(tiny_xl_folder: Path) -> StableDiffusionXLPipeline:
    """diffusers' own pipeline of the same folder."""
    return StableDiffusionXLPipeline.from_pretrained(tiny_xl_folder, add_watermarker=False)


@pytest.fixture
def latents() -> Tensor:
    """Latents (2, 4, 16, 24) of images of 32 x 48 pixels."""
    return torch.randn(2, 4, 16, 24, generator=torch.Generator().manual_seed(1))


def backbone_of(diffusion: DiffusionXL, **keys: Any) -> StableDiffusionBackbone:
    config = MODELS["stable_diffusion_xl"](backbone="stable_diffusion_xl", weights="any", **keys)
    return StableDiffusionXL.make_backbone(diffusion, config, diffusion.tokens, (32, 48))


@torch.no_grad()
def encoded(diffusion: DiffusionXL, *prompts: str) -> Tensor:
    return encode_prompts(diffusion.tokenizer, diffusion.text_encoder, prompts)


@torch.no_grad()
def test_contexts_are_those_of_the_pipeline_with_the_pooled_vector_as_last_row(xl: DiffusionXL, pipeline) -> None:
    """A short text, none, and one that is cut."""
    for prompt in ("a red ox", "", "a" * 40):
        states, _, pooled, _ = pipeline.encode_prompt(prompt, device="cpu", do_classifier_free_guidance=False)
        context = encoded(xl, prompt)
        assert context.shape == (1, xl.tokens, WIDTH) and xl.tokens == LENGTH + 1
        torch.testing.assert_close(context[:, :-1], states)
        torch.testing.assert_close(context[:, -1, :POOLED], pooled)
        assert not context[:, -1, POOLED:].any()


def test_attention_layers_have_the_names_of_the_layers_that_recipes_read(xl: DiffusionXL) -> None:
    names = [".".join(name.split(".")[:2]) for name in cross_layers(xl.unet)]
    assert {*names} <= {*named_layers(xl.unet)} and len(names) > len({*names})


@torch.no_grad()
def test_an_exclamation_mark_is_no_padding(xl: DiffusionXL, pipeline) -> None:
    """The second tokenizer pads with it, and diffusers reads each as padding; OpenCLIP's tokenizer does not."""
    assert pipeline.tokenizer_2("ox!").input_ids[3] == pipeline.tokenizer_2.pad_token_id == 0
    ids = torch.tensor([pipeline.tokenizer("ox!").input_ids + [0] * (LENGTH - 5)])
    pooled = pipeline.text_encoder_2(ids).text_embeds
    torch.testing.assert_close(encoded(xl, "ox!")[:, -1, :POOLED], pooled)


@torch.no_grad()
def test_names_are_encoded_each_by_itself_and_their_pooled_vectors_averaged(xl: DiffusionXL) -> None:
    found = encode_names(xl.tokenizer, xl.text_encoder, ["ox", "cow", "c" * 40])
    ox, cow, long = encoded(xl, "ox", "cow", "c" * 40)
    expected = [ox[:3], cow[1:4], long[1:LENGTH], torch.stack([ox[-1], cow[-1], long[-1]]).mean(0)[None]]
    torch.testing.assert_close(found, torch.cat(expected))


def test_prompts_have_the_tokens_of_the_tokenizer(xl: DiffusionXL) -> None:
    assert xl.tokenizer.model_max_length == LENGTH
    assert count_tokens(xl.tokenizer, "a red ox!") == 7


def plain_pass(pipeline, prompts: list[str], latents: Tensor, time: int) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Outputs of the modules of `FEATURES` and maps (B, N, T) of each cross-attention, in a pass of diffusers' own."""
    unet = pipeline.unet
    states, _, pooled, _ = pipeline.encode_prompt(prompts, device="cpu", do_classifier_free_guidance=False)
    ids = pipeline._get_add_time_ids((32, 48), (0, 0), (32, 48), torch.float32, POOLED)
    seen: dict[str, Tensor] = {}
    maps: dict[str, Tensor] = {}

    def keep(name: str, output: Any) -> None:
        seen[name] = output if isinstance(output, Tensor) else output[0]

    def attend(name: str, attn: Any, hidden: Tensor) -> None:
        query, key = (layer.unflatten(2, (attn.heads, -1)) for layer in (attn.to_q(hidden), attn.to_k(states)))
        scores = torch.einsum("bnhd,bthd->bhnt", query, key) * query.shape[-1] ** -0.5
        maps[name] = scores.softmax(-1).mean(1)

    with ExitStack() as hooks:
        for name, path in FEATURES.items():
            module = unet.get_submodule(path)
            hooks.callback(module.register_forward_hook(lambda _, __, out, name=name: keep(name, out)).remove)
        for name, module in unet.named_modules():
            if name.endswith("attn2"):
                hook = module.register_forward_pre_hook(lambda attn, args, name=name: attend(name, attn, args[0]))
                hooks.callback(hook.remove)
        added = {"text_embeds": pooled, "time_ids": ids.expand(len(prompts), -1)}
        unet(latents, time, states, added_cond_kwargs=added)
    return [seen[name] for name in FEATURES], maps


@torch.no_grad()
def test_features_and_maps_are_those_of_a_plain_forward_pass(xl: DiffusionXL, pipeline, latents: Tensor) -> None:
    """Three levels, largest first; maps are the mean over all attention that runs down and up in levels 1 and 2."""
    prompts = ["a red ox", "two cats"]
    features, maps = plain_pass(pipeline, prompts, latents, 40)
    backbone = backbone_of(xl, timestep=40)
    found = backbone(latents, encoded(xl, *prompts))
    assert backbone.channels == (8, 16 + LENGTH, 24 + LENGTH) and backbone.strides == (2, 4, 8)
    assert [tuple(level.shape) for level in found] == [
        (2, channels, 32 // stride, 48 // stride)
        for channels, stride in zip(backbone.channels, backbone.strides, strict=True)
    ]
    for level, expected in zip(found, features, strict=True):
        torch.testing.assert_close(level[:, : expected.shape[1]], expected)
    blocks = [("down_blocks.1.", "up_blocks.1."), ("down_blocks.2.", "up_blocks.0.")]
    for level, names, size in zip(found[1:], blocks, [(8, 12), (4, 6)], strict=True):
        read = [one for name, one in maps.items() if name.startswith(names)]
        mean = torch.stack(read).mean(0).transpose(1, 2).unflatten(2, size)
        torch.testing.assert_close(level[:, -LENGTH:], mean)


@torch.no_grad()
def test_features_know_the_pooled_vector_and_the_size(xl: DiffusionXL, latents: Tensor) -> None:
    backbone, context = backbone_of(xl, attention_maps="none"), encoded(xl, "a red ox", "two cats")
    whole = backbone(latents, context)
    other = context.clone()
    other[:, -1] = context.flip(0)[:, -1]
    assert not torch.allclose(backbone(latents, other)[0], whole[0], atol=1e-6)
    seen = []
    backbone.unet.add_time_proj.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].tolist()))
    backbone(latents[:, :, :8], context)
    assert seen == [[16, 48, 0, 0, 16, 48] * 2]


@pytest.mark.slow
@torch.no_grad()
def test_a_pass_can_be_compiled_as_one_graph(xl: DiffusionXL, latents: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    backbone, context = backbone_of(xl), encoded(xl, "a red ox", "two cats")
    compiled = torch.compile(backbone, backend="eager", fullgraph=True)
    for found, expected in zip(compiled(latents, context), backbone(latents, context), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("keys", [{}, {"attention_maps": "none", "layers": "encoder"}, {"layers": ["mid.0", "up1.0"]}])
def test_every_trained_parameter_gets_a_gradient(xl: DiffusionXL, latents: Tensor, keys: dict[str, Any]) -> None:
    """Otherwise DistributedDataParallel would wait for gradients that never come."""
    config = MODELS["stable_diffusion_xl"](
        backbone="stable_diffusion_xl", weights="any", adapter=True, head=SemanticFPNConfig(channels=8), **keys
    )
    model = TADP(StableDiffusionXL.make_backbone(xl, config, xl.tokens, (32, 48)), 3, config).train()
    model(latents, encoded(xl, "a red ox", "two cats")).square().mean().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


@pytest.fixture
def copy(tiny_xl_folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(tiny_xl_folder, tmp_path / "copy"))


@pytest.mark.parametrize("part", ["text_encoder_2", "tokenizer_2", "vae"])
def test_a_folder_without_a_part_is_refused(copy: Path, part: str) -> None:
    shutil.rmtree(copy / part)
    config = MODELS["stable_diffusion_xl"](backbone="stable_diffusion_xl", weights=str(copy))
    for ask in (StableDiffusionXL.digests, StableDiffusionXL.sizes):
        with pytest.raises(
            UserError, match=rf"lacks {part}; a diffusers folder holds vae/.*, text_encoder_2/, tokenizer_2/"
        ):
            ask(config)


def test_the_digest_follows_the_second_text_encoder_too(tiny_xl_folder: Path, copy: Path) -> None:
    assert digest_xl(str(copy)) == digest_xl(str(tiny_xl_folder))
    tensors = load_file(copy / "text_encoder_2/model.safetensors")
    tensors["text_projection.weight"][0, 0] += 1e-3
    save_file(tensors, copy / "text_encoder_2/model.safetensors", {"format": "pt"})
    assert digest_xl(str(copy)) != digest_xl(str(tiny_xl_folder))


def test_each_family_names_the_other_for_its_folders(tiny_folder: Path, tiny_xl_folder: Path, copy: Path) -> None:
    with pytest.raises(
        UserError, match=r"holds a Stable Diffusion XL, not .* set model\.backbone: stable_diffusion_xl"
    ):
        load_diffusion(str(tiny_xl_folder))
    with pytest.raises(
        UserError, match=r"lacks text_encoder_2, tokenizer_2; .* for 1\.x and 2\.x set it to stable_diffusion"
    ):
        load_diffusion_xl(str(tiny_folder))
    shutil.rmtree(copy / "unet")
    shutil.copytree(tiny_folder / "unet", copy / "unet")
    with pytest.raises(
        UserError, match=r"holds a Stable Diffusion 1.x or 2.x, not .* set model\.backbone: stable_diffusion,"
    ):
        load_diffusion_xl(str(copy))
    with pytest.raises(UserError, match="reads no single file; .* convert it"):
        load_diffusion_xl(str(tiny_xl_folder / "unet/diffusion_pytorch_model.safetensors"))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ("text_encoder", r"cross_attention_dim 32, not 40 \(the sum of both text encoders' hidden_size\).*; put unet/"),
        ("text_encoder_2", r"cross_attention_dim 32, not 40 .*projection_class_embeddings_input_dim 62, not 64 "),
    ],
)
def test_text_encoders_of_another_width_are_refused(copy: Path, other: str, said: str) -> None:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    kind = CLIPTextModel if other == "text_encoder" else CLIPTextModelWithProjection
    config = CLIPTextConfig.from_pretrained(copy / other)
    config.hidden_size, config.projection_dim = config.hidden_size + 8, 16
    kind(config).save_pretrained(copy / other)
    with pytest.raises(UserError, match=said):
        load_diffusion_xl(str(copy))


def test_tokenizers_that_read_a_text_differently_are_refused(copy: Path) -> None:
    file = copy / "tokenizer_2/tokenizer.json"
    contents = json.loads(file.read_text())
    vocabulary = contents["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    file.write_text(json.dumps(contents))
    with pytest.raises(
        UserError, match="two tokenizers of other tokens or lengths, .* fetch tokenizer/ and tokenizer_2/"
    ):
        load_diffusion_xl(str(copy))


def test_random_weights_are_of_unet_and_both_text_encoders(xl: DiffusionXL) -> None:
    one, same, other = (xl.reinitialized(seed) for seed in (0, 0, 1))
    assert one.vae is xl.vae and one.text_encoder.config is xl.text_encoder.config
    for part in ("unet", "text_encoder"):
        left, right, third, old = (getattr(each, part).state_dict() for each in (one, same, other, xl))
        assert left.keys() == old.keys() and all(torch.equal(left[name], right[name]) for name in left)
        weights = [name for name, tensor in left.items() if tensor.ndim > 1]
        assert not any(torch.equal(left[name], each[name]) for name in weights for each in (third, old))
