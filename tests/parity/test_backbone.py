"""The backbone against values that VPD's published feature extractor gave for a small random U-Net."""

import json
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from safetensors import safe_open

from tadp_ray.models.backbone import unet_features


def test_features_and_maps_equal_the_published_extractor(shared: Path) -> None:
    """All four levels, maps included, within 1e-4 (source: vpd/models.py of the VPD repository)."""
    with safe_open(shared / "reference/vpd_unet_features.safetensors", "pt") as file:
        tensors = {name: file.get_tensor(name).float() for name in file.keys()}
        config = json.loads(file.metadata()["unet_config"])
    unet = UNet2DConditionModel.from_config(config).eval()
    unet.load_state_dict({name.removeprefix("unet."): t for name, t in tensors.items() if name.startswith("unet.")})
    with torch.no_grad():
        features = unet_features(
            unet, tensors["latents"], tensors["timesteps"].long(), tensors["context"], maps="cross"
        )
    assert len(features) == 4
    for level, found in enumerate(features):
        torch.testing.assert_close(found, tensors[f"features.{level}"], atol=1e-4, rtol=0)
