"""A backbone says of its features and latents what they are."""

import pytest
import torch

from tadp_ray.backbones.stable_diffusion.backbone import StableDiffusionBackbone
from tadp_ray.backbones.stable_diffusion.load import Diffusion
from tadp_ray.config.model import MODELS


@pytest.mark.parametrize("maps", ["none", "cross", "cross+self"])
def test_features_have_the_channels_and_strides_that_a_backbone_names(tiny_diffusion: Diffusion, maps: str) -> None:
    config = MODELS["stable_diffusion"](attention_maps=maps, latent="vpd")
    backbone = StableDiffusionBackbone(tiny_diffusion, config, tokens=13, latent=(16, 24))
    images = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents = backbone.encode_image(images).mean
    assert latents.shape == (2, *backbone.latent_shape(images)) == (2, 4, 16, 24)
    assert backbone.image_size(latents) == (32, 48)
    features = backbone(latents, torch.zeros(2, 13, backbone.context_width))
    expected = [(2, c, 32 // s, 48 // s) for c, s in zip(backbone.channels, backbone.strides, strict=True)]
    assert [tuple(level.shape) for level in features] == expected
    assert backbone.strides == (2, 4, 8, 16) and backbone.multiple == 16


def test_attention_norms_are_those_that_the_published_rules_match_by_name(tiny_diffusion: Diffusion) -> None:
    """The rules look for "norm" in names, and the published U-Net calls the norms of its residual blocks otherwise."""
    backbone = StableDiffusionBackbone(tiny_diffusion, MODELS["stable_diffusion"](), tokens=13)
    found = {id(parameter) for parameter in backbone.attention_norms()}
    names = {name for name, parameter in backbone.named_parameters() if id(parameter) in found}
    assert names == {name for name, _ in backbone.named_parameters() if ".attentions." in name and "norm" in name}
    assert {name.split(".")[1] for name in names} == {"down_blocks", "mid_block", "up_blocks"}
    assert any(".resnets." in name and "norm" in name for name, _ in backbone.named_parameters())
