"""What is trained of a U-Net is what the recipe says, and the rest costs no backward pass."""

import pytest
import torch
from torch import Tensor

from tadp_ray.backbones.stable_diffusion.backbone import StableDiffusionBackbone
from tadp_ray.backbones.stable_diffusion.load import Diffusion
from tadp_ray.config.model import MODELS


def make(diffusion: Diffusion, **settings: object) -> StableDiffusionBackbone:
    return StableDiffusionBackbone(diffusion, MODELS["stable_diffusion"](**settings), tokens=13)


@pytest.fixture
def latents() -> Tensor:
    """Latents (2, 4, 16, 24)."""
    return torch.randn(2, 4, 16, 24, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def text() -> Tensor:
    """Contexts (2, L, D)."""
    return torch.randn(2, 13, 20, generator=torch.Generator().manual_seed(1))


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
