"""PixArt is read as diffusers runs it: contexts, padding, features, cross-attention maps, and folders that do not fit."""

import json
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline
from pydantic import ValidationError
from torch import Tensor

from tadp_ray.backbones.pixart.backbone import PixArtBackbone
from tadp_ray.backbones.pixart.family import PixArtFamily
from tadp_ray.backbones.pixart.load import PixArt, load_pixart
from tadp_ray.backbones.pixart.weights import digest_pixart, text_length
from tadp_ray.backbones.stable_diffusion.family import StableDiffusion
from tadp_ray.conditioning.text_encoder import TextAdapter, class_embedding, count_tokens, encode_names, encode_prompts
from tadp_ray.config.model import MODELS
from tadp_ray.errors import UserError
from tadp_ray.tasks.segmentation.config import SemanticFPNConfig
from tadp_ray.training.model import TADP

PROMPTS = ["a red ox", "Two cats"]
WIDTH, TOKENS = 24, {"sigma": 300, "alpha": 120}


@pytest.fixture(scope="module", params=TOKENS)
def version(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(version: str, tiny_pixart_folder: Path, tiny_pixart_alpha_folder: Path) -> Path:
    return {"sigma": tiny_pixart_folder, "alpha": tiny_pixart_alpha_folder}[version]


@pytest.fixture(scope="module")
def pixart(folder: Path) -> PixArt:
    """The tiny PixArt, loaded; tests must not change it."""
    return load_pixart(str(folder))


@pytest.fixture(scope="module")
def sigma(tiny_pixart_folder: Path) -> PixArt:
    """The tiny PixArt-Sigma, loaded; tests must not change it."""
    return load_pixart(str(tiny_pixart_folder))


@pytest.fixture
def latents() -> Tensor:
    """Latents (2, 4, 16, 24) of images of 32 x 48 pixels."""
    return torch.randn(2, 4, 16, 24, generator=torch.Generator().manual_seed(1))


def config_of(**keys: Any) -> Any:
    return MODELS["pixart"](**{"backbone": "pixart", "weights": "any", **keys})


def backbone_of(diffusion: PixArt, **keys: Any) -> PixArtBackbone:
    return PixArtFamily.make_backbone(diffusion, config_of(**keys), diffusion.tokens, (32, 48))


@torch.no_grad()
def encoded(diffusion: PixArt, *prompts: str) -> Tensor:
    return encode_prompts(diffusion.tokenizer, diffusion.text_encoder, prompts)


@torch.no_grad()
def plain_text(folder: Path, prompts: list[str]) -> tuple[Tensor, Tensor]:
    """States and mask of diffusers' pipeline."""
    pipeline = DiffusionPipeline.from_pretrained(folder)
    states, mask, *_ = pipeline.encode_prompt(prompts, do_classifier_free_guidance=False, device="cpu")
    return states, mask


@torch.no_grad()
def test_contexts_are_those_of_the_pipeline_with_zeros_for_padding(pixart: PixArt, folder: Path, version: str) -> None:
    """A short text in both cases, none, and one that is cut."""
    prompts = ["a Red ox", "", "ox " * 200]
    states, mask = plain_text(folder, prompts)
    context = encoded(pixart, *prompts)
    assert context.shape == (3, TOKENS[version], 20) and pixart.tokens == TOKENS[version]
    assert mask.sum(1).tolist() == [10, 1, TOKENS[version]]
    torch.testing.assert_close(context, states * mask[..., None])
    assert context.ne(0).any(-1).equal(mask.bool())


@torch.no_grad()
def plain_pass(
    folder: Path, latents: Tensor, time: int, added: dict[str, Any]
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Prediction, states behind every block and maps (B, N, T) of each cross-attention, in a pass of diffusers' own."""
    transformer = DiffusionPipeline.from_pretrained(folder).transformer
    states, mask = plain_text(folder, PROMPTS)
    seen: list[Tensor] = []
    maps: list[Tensor] = []

    def attend(attn: Any, args: Any, keys: Any) -> None:
        query, key = attn.to_q(args[0]), attn.to_k(keys["encoder_hidden_states"])
        query, key = (each.unflatten(2, (attn.heads, -1)) for each in (query, key))
        scores = torch.einsum("bnhd,bthd->bhnt", query, key) * query.shape[-1] ** -0.5
        maps.append(scores.masked_fill(mask[:, None, None] == 0, float("-inf")).softmax(-1).mean(1))

    with ExitStack() as hooks:
        for block in transformer.transformer_blocks:
            hooks.callback(block.register_forward_hook(lambda _, __, output: seen.append(output)).remove)
            hooks.callback(block.attn2.register_forward_pre_hook(attend, with_kwargs=True).remove)
        output = transformer(
            latents,
            encoder_hidden_states=states,
            encoder_attention_mask=mask,
            timestep=torch.tensor([time] * 2),
            added_cond_kwargs=added,
        ).sample
    return output, seen, maps


def pyramid(images: list[Tensor]) -> list[Tensor]:
    """The four levels of four images at the stride of a patch."""
    twice = F.interpolate(images[0], scale_factor=2, mode="bilinear", align_corners=False)
    return [twice, images[1], F.avg_pool2d(images[2], 2), F.avg_pool2d(images[3], 4)]


@torch.no_grad()
def test_features_and_maps_are_those_of_a_plain_forward_pass(
    pixart: PixArt, folder: Path, version: str, latents: Tensor
) -> None:
    """Blocks 2, 3, 5 and 6 of 6, largest level first; maps are the mean over all blocks, and show nothing of padding."""
    size = {"resolution": torch.tensor([[32.0, 48.0]] * 2), "aspect_ratio": torch.tensor([[32 / 48]] * 2)}
    output, states, maps = plain_pass(
        folder, latents, 40, size if version == "alpha" else {"resolution": None, "aspect_ratio": None}
    )
    backbone, context = backbone_of(pixart, timestep=40), encoded(pixart, *PROMPTS)
    found = backbone(latents, context)
    length = TOKENS[version]
    assert backbone.channels == (WIDTH, WIDTH + length, WIDTH + length, WIDTH)
    assert backbone.strides == (2, 4, 8, 16) and backbone.multiple == 16 and backbone.context_width == 20
    assert [tuple(level.shape) for level in found] == [
        (2, channels, 32 // stride, 48 // stride)
        for channels, stride in zip(backbone.channels, backbone.strides, strict=True)
    ]
    as_image = lambda rows: rows.transpose(1, 2).unflatten(2, (8, 12))
    for level, expected in zip(found, pyramid([as_image(states[index]) for index in (1, 2, 4, 5)]), strict=True):
        torch.testing.assert_close(level[:, :WIDTH], expected)
    mean = as_image(torch.stack(maps).mean(0))
    for level, expected in zip(found[1:3], pyramid([mean] * 4)[1:3], strict=True):
        torch.testing.assert_close(level[:, WIDTH:], expected)
    assert mean[0, :10].sum(0).allclose(torch.ones(8, 12)) and not found[1][0, WIDTH + 10 :].any()
    torch.testing.assert_close(pixart.predict(latents, torch.tensor([40, 40]), context), output[:, :4])


@torch.no_grad()
def test_a_named_block_is_read_by_all_levels_and_nothing_runs_behind_it(sigma: PixArt, latents: Tensor) -> None:
    context = encoded(sigma, *PROMPTS)
    one, four = (
        backbone_of(sigma, layers=layers, attention_maps="none")
        for layers in (["block1"], ["block0", "block1", "block3", "block2"])
    )
    assert (len(one.transformer.transformer_blocks), len(four.transformer.transformer_blocks)) == (2, 4)
    levels = one(latents, context)
    for level, expected in zip(levels, pyramid([levels[1]] * 4), strict=True):
        torch.testing.assert_close(level, expected)
    torch.testing.assert_close(four(latents, context)[1], levels[1])


@torch.no_grad()
def test_padding_stays_padding_behind_a_text_adapter(sigma: PixArt) -> None:
    context = encoded(sigma, "a red ox")
    adapter = TextAdapter(20)
    adapter.gamma.fill_(1.0)
    adapted = adapter(context)
    assert not adapted[:, 10:].any() and adapted[:, :10].ne(context[:, :10]).all()


@torch.no_grad()
def test_a_context_is_as_long_as_its_sources_say(sigma: PixArt, latents: Tensor) -> None:
    """Cross-attention takes more vectors than texts have tokens."""
    context = torch.cat([encoded(sigma, *PROMPTS), torch.randn(2, 16, 20)], 1)
    backbone = PixArtFamily.make_backbone(sigma, config_of(), sigma.tokens + 16, (32, 48))
    found = backbone(latents, context)
    assert found[1].shape[1] == backbone.channels[1] == WIDTH + 316 and found[1][:, -16:].all()


@torch.no_grad()
def test_names_and_classes_are_encoded_without_a_start_token(sigma: PixArt) -> None:
    ox, cow = encoded(sigma, "ox", "cow")
    assert count_tokens(sigma.tokenizer, "ox") == 3 and sigma.tokenizer.max_len_single_sentence == 299
    torch.testing.assert_close(
        encode_names(sigma.tokenizer, sigma.text_encoder, ["ox", "cow"]), torch.cat([ox[:3], cow[:4]])
    )
    torch.testing.assert_close(class_embedding(sigma.tokenizer, sigma.text_encoder, "ox", ["{}"]), ox[3])


@pytest.mark.slow
@torch.no_grad()
def test_a_pass_can_be_compiled_as_one_graph(pixart: PixArt, latents: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    backbone, context = backbone_of(pixart), encoded(pixart, *PROMPTS)
    compiled = torch.compile(backbone, backend="eager", fullgraph=True)
    for found, expected in zip(compiled(latents, context), backbone(latents, context), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    "keys", [{}, {"attention_maps": "none", "layers": ["block3"]}, {"timestep": [1, 200], "noise_samples": 1}]
)
def test_every_trained_parameter_gets_a_gradient(sigma: PixArt, latents: Tensor, keys: dict[str, Any]) -> None:
    """Otherwise DistributedDataParallel would wait for gradients that never come."""
    config = config_of(adapter=True, head=SemanticFPNConfig(channels=8), **keys)
    model = TADP(PixArtFamily.make_backbone(sigma, config, sigma.tokens, (32, 48)), 3, config).train()
    noise = torch.randn(2, 1, *latents.shape[1:]) if "noise_samples" in keys else None
    model(latents, encoded(sigma, *PROMPTS), noise=noise).square().mean().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_gradients_are_the_same_if_activations_are_recomputed(sigma: PixArt, latents: Tensor) -> None:
    context, found = encoded(sigma, *PROMPTS), []
    for recompute in (False, True):
        backbone = backbone_of(sigma, detach_attention=False)
        if recompute:
            backbone.enable_gradient_checkpointing()
        for _ in range(2):
            backbone.zero_grad()
            sum(level.square().mean() for level in backbone(latents, context)).backward()
        found.append({name: parameter.grad for name, parameter in backbone.named_parameters()})
    torch.testing.assert_close(*found)


def test_what_is_trained_is_of_the_transformer(sigma: PixArt, latents: Tensor) -> None:
    trained = lambda **keys: {n for n, p in backbone_of(sigma, **keys).named_parameters() if p.requires_grad}
    everything = trained()
    assert trained(trainable="frozen") == set()
    attention = trained(trainable="attention_only")
    assert (
        attention == {name for name in everything if ".attn1." in name or ".attn2." in name}
        and len(attention) == 6 * 16
    )
    lora = trained(trainable={"kind": "lora", "targets": ["attn2.to_q"]})
    assert len(lora) == 6 * 2 and all("attn2.to_q.lora_" in name for name in lora)
    context = encoded(sigma, *PROMPTS)
    plain, adapted = (backbone_of(sigma, trainable=kind)(latents, context) for kind in ("full", "lora"))
    torch.testing.assert_close(adapted, plain)
    assert backbone_of(sigma).attention_norms() == []


def test_noise_is_of_the_models_own_schedule(sigma: PixArt, latents: Tensor) -> None:
    """Linear betas from 1e-4 to 0.02, as DPMSolverMultistepScheduler has them."""
    kept = torch.linspace(1e-4, 0.02, 1000).double().neg().add(1).log().cumsum(0).exp()[300]
    noise, context = torch.randn(2, 1, *latents.shape[1:]), encoded(sigma, *PROMPTS)
    noisy = (kept.sqrt() * latents + (1 - kept).sqrt() * noise[:, 0]).float()
    found = backbone_of(sigma, timestep=300, noise_samples=1)(latents, context, noise)
    torch.testing.assert_close(found, backbone_of(sigma, timestep=300)(noisy, context), rtol=1e-4, atol=1e-4)


@pytest.fixture
def copy(tiny_pixart_folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(tiny_pixart_folder, tmp_path / "copy"))


def changed(file: Path, **values: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_blocks_and_timesteps_that_are_not_there_are_refused(copy: Path, sigma: PixArt) -> None:
    with pytest.raises(
        UserError, match=r"model\.layers='block6': this transformer has no such block; did you mean 'block\d'"
    ):
        backbone_of(sigma, layers=["block6"])
    with pytest.raises(UserError, match="model.layers='7': .* valid names: spread, block0, block1"):
        backbone_of(sigma, layers=["7"])
    for layers, said in ((["block0", "block1"], "names 2 blocks; name 4"), (["block0"] * 5, "names 5 blocks")):
        with pytest.raises(ValidationError, match=said):
            config_of(layers=layers)
    with pytest.raises(ValidationError, match="less than 1000"):
        config_of(timestep=1000)
    changed(copy / "scheduler/scheduler_config.json", num_train_timesteps=500)
    with pytest.raises(UserError, match=r"model\.timestep=600: the noise schedule of this model ends at 499"):
        backbone_of(load_pixart(str(copy)), timestep=[1, 600], noise_samples=1)


def test_vectors_that_would_be_taken_for_padding_are_refused() -> None:
    captioner = {"kind": "image", "map": "captioner", "encoder": "any"}
    learned = {"kind": "learned", "count": 4}
    config_of(context={"sources": [learned, captioner], "join": "sum"})
    config_of(context={"sources": ["text", learned]})
    for other, join in (("text", "sum"), ("text", "concatenate"), (learned, "concatenate")):
        with pytest.raises(ValidationError, match="takes a row of zeros for padding, .* use another map"):
            config_of(context={"sources": [other, captioner], "join": join})


@pytest.mark.parametrize("part", ["text_encoder", "tokenizer", "vae"])
def test_a_folder_without_a_part_is_refused(copy: Path, part: str) -> None:
    """Some of PixArt's repositories have nothing but the transformer."""
    shutil.rmtree(copy / part)
    config = config_of(weights=str(copy))
    for ask in (PixArtFamily.digests, PixArtFamily.sizes):
        with pytest.raises(
            UserError, match=rf"lacks {part}; a diffusers folder holds vae/, transformer/.* transformer/ alone"
        ):
            ask(config)


def test_the_digest_follows_the_pipeline_that_the_folder_names(tiny_pixart_folder: Path, copy: Path) -> None:
    """By it a text has 120 or 300 tokens."""
    assert digest_pixart(str(copy)) == digest_pixart(str(tiny_pixart_folder)) and text_length(copy) == 300
    changed(copy / "model_index.json", _class_name="PixArtAlphaPipeline")
    assert digest_pixart(str(copy)) != digest_pixart(str(tiny_pixart_folder)) and text_length(copy) == 120


def test_other_models_are_refused(copy: Path, tiny_folder: Path, tiny_pixart_folder: Path) -> None:
    with pytest.raises(UserError, match="lacks transformer; .* for Stable Diffusion set it to stable_diffusion"):
        load_pixart(str(tiny_folder))
    with pytest.raises(UserError, match=r"lacks unet; .*; model\.backbone: pixart reads a transformer/"):
        StableDiffusion.sizes(MODELS["stable_diffusion"](weights=str(tiny_pixart_folder)))
    with pytest.raises(UserError, match="reads no single file"):
        load_pixart(str(copy / "transformer/diffusion_pytorch_model.safetensors"))
    shutil.rmtree(copy / "vae")
    shutil.copytree(tiny_folder / "vae", copy / "vae")
    shutil.rmtree(copy / "text_encoder")
    shutil.copytree(tiny_folder / "text_encoder", copy / "text_encoder")
    with pytest.raises(UserError, match="has a tokenizer of .* tokens and a text encoder of"):
        load_pixart(str(copy))
    changed(copy / "transformer/config.json", _class_name="FluxTransformer2DModel")
    with pytest.raises(UserError, match="is of a FluxTransformer2DModel, not of a PixArt"):
        load_pixart(str(copy))


def test_a_text_encoder_of_another_width_or_kind_is_refused(copy: Path) -> None:
    from transformers import T5Config, T5EncoderModel, ViTConfig, ViTModel

    config = T5Config.from_pretrained(copy / "text_encoder")
    config.d_model = 28
    T5EncoderModel(config).save_pretrained(copy / "text_encoder")
    with pytest.raises(UserError, match=r"caption_channels 20, not 28 \(the text encoder's width\)"):
        load_pixart(str(copy))
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    ViTModel(ViTConfig(**small)).save_pretrained(copy / "text_encoder")
    with pytest.raises(UserError, match="text_encoder/ is a vit, which is no text encoder"):
        load_pixart(str(copy))


def test_any_text_encoder_of_the_right_width_is_read(copy: Path, tiny_folder: Path) -> None:
    """CLIP's, whose padding are further ends of the text, which count no more than T5's."""
    for part in ("text_encoder", "tokenizer"):
        shutil.rmtree(copy / part)
        shutil.copytree(tiny_folder / part, copy / part)
    pixart = load_pixart(str(copy))
    assert pixart.tokens == 13 and pixart.tokenizer.model_max_length == 13
    context = encoded(pixart, "A red ox")
    assert context.ne(0).any(-1).tolist() == [[True] * 8 + [False] * 5]  # with start and end
    ids = pixart.tokenizer(["a red ox"], return_tensors="pt").input_ids
    torch.testing.assert_close(context[:, :8], pixart.text_encoder.network(ids).last_hidden_state)
