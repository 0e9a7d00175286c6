"""Features and maps of a tiny U-Net; their values against published code are in tests/parity."""

import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor

from tadp_ray.backbones.latent.attention import MapReader
from tadp_ray.backbones.stable_diffusion.attention import reading_maps
from tadp_ray.backbones.stable_diffusion.features import FeatureReader, feature_channels, unet_features
from tadp_ray.backbones.stable_diffusion.layers import MAP_LEVELS, choose
from tadp_ray.backbones.stable_diffusion.load import Diffusion
from tadp_ray.errors import UserError

TOKENS, WIDTH = 7, 20


@pytest.fixture
def text() -> Tensor:
    """Context (2, T, D)."""
    return torch.randn(2, TOKENS, WIDTH, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def latents() -> Tensor:
    """Latents (2, 4, 24, 40): no square."""
    return torch.randn(2, 4, 24, 40, generator=torch.Generator().manual_seed(2))


def processors(diffusion: Diffusion) -> list[object]:
    return [module.processor for module in diffusion.unet.modules() if isinstance(module, Attention)]


@pytest.mark.parametrize("maps", ["cross", "none", "cross+self"])
def test_levels_have_the_promised_shapes(tiny_diffusion: Diffusion, latents: Tensor, text: Tensor, maps: str) -> None:
    with torch.no_grad():
        features = unet_features(tiny_diffusion.unet, latents, torch.ones(2), text, maps)
    channels = feature_channels(tiny_diffusion.unet, TOKENS, choose(tiny_diffusion.unet, maps=maps), maps, (24, 40))
    sizes = [(24, 40), (12, 20), (6, 10), (3, 5)]
    assert [tuple(f.shape) for f in features] == [(2, c, *size) for c, size in zip(channels, sizes, strict=True)]


def test_maps_are_shares_over_tokens(tiny_diffusion: Diffusion, latents: Tensor, text: Tensor) -> None:
    with torch.no_grad():
        features = unet_features(tiny_diffusion.unet, latents, torch.ones(2), text)
    for level in MAP_LEVELS:
        maps = features[level][:, -TOKENS:]
        assert maps.min() >= 0
        torch.testing.assert_close(maps.sum(1), torch.ones(maps[:, 0].shape))


def test_self_attention_maps_stand_behind_and_are_shares_over_pixels(
    tiny_diffusion: Diffusion, latents: Tensor, text: Tensor
) -> None:
    with torch.no_grad():
        cross = unet_features(tiny_diffusion.unet, latents, torch.ones(2), text, "cross")
        both = unet_features(tiny_diffusion.unet, latents, torch.ones(2), text, "cross+self")
    for level in MAP_LEVELS:
        own = both[level][:, cross[level].shape[1] :]
        torch.testing.assert_close(both[level][:, : cross[level].shape[1]], cross[level], atol=1e-5, rtol=1e-4)
        assert own.shape[1] == own.shape[2] * own.shape[3]
        torch.testing.assert_close(own.sum(1), torch.ones(own[:, 0].shape))


def test_reading_maps_changes_no_feature(tiny_diffusion: Diffusion, latents: Tensor, text: Tensor) -> None:
    """The open computation gives what fused attention gives."""
    with torch.no_grad():
        read = unet_features(tiny_diffusion.unet, latents, torch.ones(2), text, "cross")
        fused = unet_features(tiny_diffusion.unet, latents, torch.ones(2), text, "none")
    for level, feature in enumerate(fused):
        torch.testing.assert_close(read[level][:, : feature.shape[1]], feature, atol=1e-5, rtol=1e-4)


def test_ten_layers_are_read_and_the_others_stay_fused(tiny_diffusion: Diffusion) -> None:
    before, layers = processors(tiny_diffusion), choose(tiny_diffusion.unet).maps
    assert {type(p) for p in before} == {AttnProcessor2_0}
    with reading_maps(tiny_diffusion.unet, layers, detach=True):
        outer = processors(tiny_diffusion)
        assert sum(isinstance(p, MapReader) for p in outer) == 10
        with reading_maps(tiny_diffusion.unet, layers, detach=True):
            pass
        assert processors(tiny_diffusion) == outer
    assert processors(tiny_diffusion) == before


def test_a_failed_pass_leaves_the_unet_as_it_was(tiny_diffusion: Diffusion, latents: Tensor, text: Tensor) -> None:
    before = processors(tiny_diffusion)
    with pytest.raises(RuntimeError):
        unet_features(tiny_diffusion.unet, latents, torch.ones(2), text[..., :-1])
    assert processors(tiny_diffusion) == before
    assert not any(module._forward_hooks for module in tiny_diffusion.unet.modules())


@pytest.mark.parametrize("detach", [True, False])
def test_maps_carry_gradients_only_when_asked(
    tiny_diffusion: Diffusion, latents: Tensor, text: Tensor, detach: bool
) -> None:
    text.requires_grad_()
    read = FeatureReader(tiny_diffusion.unet, choose(tiny_diffusion.unet), detach_attention=detach)
    features = read(latents, torch.ones(2), text)
    read.close()
    (through_features,) = torch.autograd.grad(features[1][:, :-TOKENS].square().sum(), text, retain_graph=True)
    assert through_features.abs().sum() > 0
    # Without gradients of their own, maps leave the graph of the tensor that they are part of at zero.
    (through_maps,) = torch.autograd.grad(features[1][:, -TOKENS:].square().sum(), text)
    assert (through_maps.abs().sum() == 0) == detach


@pytest.mark.parametrize("size", [(24, 36), (12, 40)])
def test_sizes_that_cannot_be_halved_are_refused(
    tiny_diffusion: Diffusion, text: Tensor, size: tuple[int, int]
) -> None:
    with pytest.raises(UserError, match=rf"{size[0]} x {size[1]} cannot be halved .* multiples of 8"):
        unet_features(tiny_diffusion.unet, torch.zeros(2, 4, *size), torch.ones(2), text)
