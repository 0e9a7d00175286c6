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
    latents = backbone.encode_image(images, None)
    assert latents.shape == (2, *backbone.latent_shape(images)) == (2, 4, 16, 24)
    assert backbone.image_size(latents) == (32, 48)
    features = backbone(latents, torch.zeros(2, 13, backbone.context_width))
    expected = [(2, c, 32 // s, 48 // s) for c, s in zip(backbone.channels, backbone.strides, strict=True)]
    assert [tuple(level.shape) for level in features] == expected
    assert backbone.strides == (2, 4, 8, 16) and backbone.multiple == 16
