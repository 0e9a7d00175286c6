"""What is trained of a U-Net is what the recipe says, and the rest costs no backward pass."""

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from tadp_ray.backbones.stable_diffusion.backbone import StableDiffusionBackbone
from tadp_ray.backbones.stable_diffusion.load import Diffusion
from tadp_ray.config.model import MODELS
from tadp_ray.errors import UserError


def make(diffusion: Diffusion, **settings: object) -> StableDiffusionBackbone:
    return StableDiffusionBackbone(diffusion, MODELS["stable_diffusion"](**settings), tokens=13)


def trained(backbone: StableDiffusionBackbone) -> set[str]:
    return {name for name, parameter in backbone.named_parameters() if parameter.requires_grad}


def test_a_kind_is_the_parameters_that_it_names(tiny_diffusion: Diffusion) -> None:
    full = make(tiny_diffusion)
    names = {name for name, _ in full.named_parameters()}
    assert trained(full) == trained(make(tiny_diffusion, trainable="full")) == names
    assert trained(make(tiny_diffusion, trainable="frozen")) == set()
    attention = trained(make(tiny_diffusion, trainable="attention_only"))
    places = {name.partition(".attentions.")[0] for name in attention}
    down, up = (
        {f"unet.{side}_blocks.{level}" for level in levels} for side, levels in (("down", "012"), ("up", "123"))
    )
    assert places == down | up | {"unet.mid_block"}
    assert attention > {name for name in names if ".transformer_blocks." in name}
    # Norms and projections of a block, too.
    block = "unet.mid_block.attentions.0"
    assert attention > {
        f"{block}.{part}.{kind}" for part in ("norm", "proj_in", "proj_out") for kind in ("weight", "bias")
    }
    assert not [name for name in names - attention if "attn" in name]


def test_a_frozen_pass_keeps_nothing_and_its_features_are_those_of_a_trained_one(
    tiny_diffusion: Diffusion, latents: Tensor, text: Tensor
) -> None:
    probe, full = make(tiny_diffusion, trainable="frozen"), make(tiny_diffusion)
    for found, expected in zip(probe(latents, text), full(latents, text), strict=True):
        assert torch.equal(found, expected)
        assert expected.grad_fn is not None and found.grad_fn is None and not found.requires_grad


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", ["frozen", "attention_only"])
def test_gradients_are_those_of_a_full_training_wherever_there_are_any(
    tiny_diffusion: Diffusion, latents: Tensor, text: Tensor, kind: str, checkpointing: bool
) -> None:
    """Of the context, too, by which a text adapter learns through a U-Net that does not."""
    found = {}
    for kept in ("full", kind):
        backbone, context = make(tiny_diffusion, trainable=kept), text.clone().requires_grad_()
        if checkpointing:
            backbone.train().enable_gradient_checkpointing()
        sum(level.square().mean() for level in backbone(latents, context)).backward()
        found[kept] = {name: p.grad for name, p in backbone.named_parameters() if p.grad is not None}
        found[kept]["context"] = context.grad
    assert found[kind].keys() == {*trained(make(tiny_diffusion, trainable=kind)), "context"}
    assert found[kind]["context"].abs().sum() > 0
    for name, gradient in found[kind].items():
        torch.testing.assert_close(gradient, found["full"][name], msg=lambda text, name=name: f"{name}: {text}")


def lora(diffusion: Diffusion, **settings: object) -> StableDiffusionBackbone:
    return make(diffusion, trainable={"kind": "lora", **settings})


@pytest.mark.slow
def test_lora_trains_two_matrices_at_each_target_and_nothing_else(tiny_diffusion: Diffusion) -> None:
    """By default at the four projections of all attention layers; a convolution is a target, too."""
    projections = {
        f"unet.{name}"
        for name, part in make(tiny_diffusion).unet.named_modules()
        if isinstance(part, nn.Linear) and ".attn" in name
    }
    assert len(projections) == 16 * 2 * 4
    found = make(tiny_diffusion, trainable="lora")
    assert trained(found) == {f"{name}.lora_{side}.default.weight" for name in projections for side in "AB"}
    shapes = {tuple(p.shape) for name, p in found.named_parameters() if "lora_A" in name}
    assert {rank for rank, _ in shapes} == {4} and {parameter.ndim for parameter in found.parameters()} == {1, 2, 4}
    some = trained(lora(tiny_diffusion, rank=2, targets=["conv_in", "mid_block.attentions.0.proj_in", "net.2"]))
    layers = {name.partition(".lora_")[0] for name in some}
    assert layers >= {"unet.conv_in", "unet.mid_block.attentions.0.proj_in"} and len(layers) == 2 + 16


def test_lora_starts_as_the_plain_unet_and_draws_no_number_of_others(
    tiny_diffusion: Diffusion, latents: Tensor, text: Tensor
) -> None:
    torch.manual_seed(5)
    plain, expected = make(tiny_diffusion), torch.randn(3)
    torch.manual_seed(5)
    adapted, drawn = lora(tiny_diffusion), torch.randn(3)
    assert torch.equal(drawn, expected)
    for found, level in zip(adapted(latents, text), plain(latents, text), strict=True):
        assert torch.equal(found, level) and found.requires_grad
    spread = torch.cat([p.flatten() for name, p in adapted.named_parameters() if "lora_A" in name]).std()
    assert spread.item() == pytest.approx(1 / 4, rel=0.05)
    assert all((p == 0).all() for name, p in adapted.named_parameters() if "lora_B" in name)


@pytest.mark.parametrize(("alpha", "scale"), [(None, 1.0), (6.0, 3.0)])
def test_gradients_of_lora_are_those_of_an_update_by_hand(
    tiny_diffusion: Diffusion, latents: Tensor, text: Tensor, alpha: float | None, scale: float
) -> None:
    """Of one layer: W + alpha / rank * B A, with the alpha of rank 2 by default."""
    layer = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    adapted = lora(tiny_diffusion, rank=2, targets=[layer], **({} if alpha is None else {"alpha": alpha}))
    up, down = (adapted.get_parameter(f"unet.{layer}.lora_{side}.default.weight") for side in "BA")
    with torch.no_grad():
        up.normal_(generator=torch.Generator().manual_seed(3))
    features = adapted(latents, text)
    sum(level.square().mean() for level in features).backward()

    plain, name = make(tiny_diffusion, trainable="frozen"), f"unet.{layer}.weight"
    own_up, own_down = (matrix.detach().clone().requires_grad_() for matrix in (up, down))
    weight = plain.get_parameter(name) + scale * own_up @ own_down
    expected = functional_call(plain, {name: weight}, (latents, text))
    sum(level.square().mean() for level in expected).backward()
    for found, level in zip(features, expected, strict=True):
        torch.testing.assert_close(found, level)
    assert own_down.grad.abs().sum() > 0
    torch.testing.assert_close(up.grad, own_up.grad)
    torch.testing.assert_close(down.grad, own_down.grad)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("to_qq", "did you mean 'to_q'?"),
        ("to_out", "did you mean 'to_out.0'?"),
        ("conv_out", "did you mean 'conv_"),
        ("o_q", "did you mean 'to_q'?"),
        ("xyz", "valid names: 0.proj, conv, conv1, conv2, conv_in, "),
    ],
)
def test_a_target_that_matches_nothing_is_refused_with_near_names(
    tiny_diffusion: Diffusion, target: str, said: str
) -> None:
    """Also what exists and is no layer, and the layer after the features, which is taken out."""
    with pytest.raises(UserError) as caught:
        lora(tiny_diffusion, targets=["to_k", target])
    assert str(caught.value).startswith(f"model.trainable.targets={target!r}: no layer of this denoiser has this name")
    assert said.replace("0.proj, ", "") in str(caught.value)
