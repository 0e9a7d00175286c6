"""The backbone against what VPD's published feature extractor computes (vpd/models.py of the VPD repository).

`data/unet_features.safetensors` holds a small random U-Net, its inputs, and the features that `plain_features` below makes of
them: the U-Net of Stable Diffusion 1 and VPD's reading of it, written out in plain torch from the papers and from how the
published code behaves, with neither diffusers nor this project's backbone. Where the reference data beside the project are
present, `plain_features` is itself held against values that the published extractor gave.

The file is written anew by

    python -m pytest tests/parity/test_backbone.py --write-golden
"""

import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from tadp_ray.backbones.stable_diffusion.features import unet_features

REFERENCE = Path(__file__).parent / "data/unet_features.safetensors"
SMALL = {
    "sample_size": 16,
    "block_out_channels": [8, 12, 16, 20],
    "layers_per_block": 2,
    "norm_num_groups": 4,
    "cross_attention_dim": 12,
    "attention_head_dim": 2,
}
"""In Stable Diffusion 1's way of counting, `attention_head_dim` is the number of heads."""


@pytest.fixture(scope="module")
def reference(request: pytest.FixtureRequest) -> tuple[dict, dict[str, Tensor]]:
    """Configuration and tensors of the small U-Net that is kept beside this file."""
    if request.config.getoption("--write-golden"):
        write_reference()
    return read(REFERENCE)


def test_features_and_maps_equal_the_published_arithmetic(reference) -> None:
    check_backbone(*reference)


def test_features_and_maps_equal_the_published_extractor(shared: Path) -> None:
    check_backbone(*read(shared / "reference/vpd_unet_features.safetensors"))


def test_the_plain_arithmetic_equals_the_published_extractor(shared: Path) -> None:
    """So that what is kept beside this file is what the published code would give."""
    config, tensors = read(shared / "reference/vpd_unet_features.safetensors")
    weights = {name.removeprefix("unet."): value for name, value in tensors.items() if name.startswith("unet.")}
    found = plain_features(weights, config, tensors["latents"], tensors["timesteps"], tensors["context"])
    for level, features in enumerate(found):
        torch.testing.assert_close(features, tensors[f"features.{level}"], atol=1e-4, rtol=0)


def test_the_kept_features_are_those_of_the_plain_arithmetic(reference) -> None:
    config, tensors = reference
    weights = {name.removeprefix("unet."): value for name, value in tensors.items() if name.startswith("unet.")}
    found = plain_features(weights, config, tensors["latents"], tensors["timesteps"], tensors["context"])
    for level, features in enumerate(found):
        torch.testing.assert_close(features, tensors[f"features.{level}"], atol=1e-4, rtol=0)


def check_backbone(config: dict, tensors: dict[str, Tensor]) -> None:
    """All four levels, maps included, within 1e-4."""
    unet = UNet2DConditionModel.from_config(config).eval()
    unet.load_state_dict({name.removeprefix("unet."): t for name, t in tensors.items() if name.startswith("unet.")})
    with torch.no_grad():
        features = unet_features(
            unet, tensors["latents"], tensors["timesteps"].long(), tensors["context"], maps="cross"
        )
    assert len(features) == 4
    for level, found in enumerate(features):
        torch.testing.assert_close(found, tensors[f"features.{level}"], atol=1e-4, rtol=0)


def read(path: Path) -> tuple[dict, dict[str, Tensor]]:
    """Configuration and float32 tensors of a file."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name).float() for name in file.keys()}
        return json.loads(file.metadata()["unet_config"]), tensors


def write_reference() -> None:
    """Draw a small U-Net and inputs that bfloat16 holds exactly, and keep them with their features."""
    rng = torch.Generator().manual_seed(0)
    shapes = {name: value.shape for name, value in UNet2DConditionModel.from_config(SMALL).state_dict().items()}
    kept = {"latents": torch.randn(2, 4, 16, 24, generator=rng), "context": torch.randn(2, 5, 12, generator=rng)}
    for name, shape in shapes.items():
        drawn = torch.randn(shape, generator=rng)
        if len(shape) == 1:
            drawn = drawn / 5 + (name.endswith("weight") and "norm" in name)
        else:
            # Larger weights would enlarge what rounding does.
            drawn /= math.sqrt(2 * math.prod(shape[1:]))
        kept[f"unet.{name}"] = drawn
    kept = {name: value.bfloat16() for name, value in kept.items()} | {"timesteps": torch.tensor([1, 700])}
    weights = {name.removeprefix("unet."): value.float() for name, value in kept.items() if name.startswith("unet.")}
    found = plain_features(weights, SMALL, kept["latents"].float(), kept["timesteps"], kept["context"].float())
    kept |= {f"features.{level}": value.contiguous() for level, value in enumerate(found)}
    save_file(kept, REFERENCE, {"unet_config": json.dumps(SMALL)})


def plain_features(
    weights: dict[str, Tensor], config: dict, latents: Tensor, timesteps: Tensor, context: Tensor
) -> list[Tensor]:
    """The four levels, largest first, with the cross-attention maps of the two middle ones behind them."""
    net = Plain(weights, config.get("norm_num_groups", 32), config["attention_head_dim"], context)
    emb = net.time(timesteps, config["block_out_channels"][0])
    x = net.conv("conv_in", latents)
    skips = [x]

    # down
    for level in range(4):
        for layer in range(2):
            x = net.layer(f"down_blocks.{level}", layer, x, emb, has_text=level < 3)
            skips.append(x)
        if level < 3:
            x = net.conv(f"down_blocks.{level}.downsamplers.0.conv", x, stride=2)
            skips.append(x)

    # through the middle
    x = net.residual("mid_block.resnets.0", x, emb)
    x = net.transformer("mid_block.attentions.0", x, None)
    x = net.residual("mid_block.resnets.1", x, emb)

    # up; a level is read before it is enlarged, the largest one at the end
    levels = []
    for level in range(4):
        for layer in range(3):
            x = net.layer(f"up_blocks.{level}", layer, torch.cat([x, skips.pop()], 1), emb, has_text=level > 0)
            if layer == (2 if level == 3 else 1):
                levels.insert(0, x)
        if level < 3:
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = net.conv(f"up_blocks.{level}.upsamplers.0.conv", x)
    for place in (1, 2):
        # Two layers going down and three going up have this size.
        maps = net.maps[tuple(levels[place].shape[-2:])]
        assert len(maps) == 5
        levels[place] = torch.cat([levels[place], sum(maps) / 5], 1)
    return levels


class Plain:
    """The parts of Stable Diffusion 1's U-Net, by the names of their weights.

    Args:
        weights: by diffusers' names.
        groups: of every group norm.
        heads: of every attention.
        context: (B, T, D).
    """

    def __init__(self, weights: dict[str, Tensor], groups: int, heads: int, context: Tensor) -> None:
        self.weights, self.groups, self.heads, self.context = weights, groups, heads, context
        self.maps: dict[tuple[int, ...], list[Tensor]] = {}

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"))

    def conv(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight = self.weights[f"{name}.weight"]
        return F.conv2d(x, weight, self.weights[f"{name}.bias"], stride=stride, padding=weight.shape[-1] // 2)

    def group_norm(self, name: str, x: Tensor, eps: float) -> Tensor:
        return F.group_norm(x, self.groups, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], eps)

    def layer_norm(self, name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def time(self, timesteps: Tensor, width: int) -> Tensor:
        """Cosines, then sines, of the timestep at falling frequencies, through two layers."""
        half = width // 2
        angles = timesteps.float()[:, None] * 10000.0 ** (-torch.arange(half) / half)
        waves = torch.cat([angles.cos(), angles.sin()], 1)
        return self.linear("time_embedding.linear_2", F.silu(self.linear("time_embedding.linear_1", waves)))

    def layer(self, block: str, number: int, x: Tensor, emb: Tensor, has_text: bool) -> Tensor:
        x = self.residual(f"{block}.resnets.{number}", x, emb)
        return self.transformer(f"{block}.attentions.{number}", x, tuple(x.shape[-2:])) if has_text else x

    def residual(self, name: str, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv(f"{name}.conv1", F.silu(self.group_norm(f"{name}.norm1", x, 1e-5)))
        h = h + self.linear(f"{name}.time_emb_proj", F.silu(emb))[:, :, None, None]
        h = self.conv(f"{name}.conv2", F.silu(self.group_norm(f"{name}.norm2", h, 1e-5)))
        return h + (self.conv(f"{name}.conv_shortcut", x) if f"{name}.conv_shortcut.weight" in self.weights else x)

    def transformer(self, name: str, x: Tensor, size: tuple[int, ...] | None) -> Tensor:
        """Self-attention, attention to the text, and a gated layer; where `size` is given, its maps are kept by it."""
        inside = f"{name}.transformer_blocks.0"
        h = self.conv(f"{name}.proj_in", self.group_norm(f"{name}.norm", x, 1e-6)).flatten(2).mT
        normed = self.layer_norm(f"{inside}.norm1", h)
        h = h + self.attention(f"{inside}.attn1", normed, normed)[0]
        attended, shares = self.attention(f"{inside}.attn2", self.layer_norm(f"{inside}.norm2", h), self.context)
        if size is not None:
            self.maps.setdefault(size, []).append(shares.mean(1).mT.unflatten(2, size))
        h = h + attended
        value, gate = self.linear(f"{inside}.ff.net.0.proj", self.layer_norm(f"{inside}.norm3", h)).chunk(2, -1)
        h = h + self.linear(f"{inside}.ff.net.2", value * F.gelu(gate))
        return x + self.conv(f"{name}.proj_out", h.mT.unflatten(2, x.shape[-2:]))

    def attention(self, name: str, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N, C), and the shares (B, heads, N, T) that each query gives to each key."""
        q, k, v = (
            self.linear(f"{name}.to_{letter}", source).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for letter, source in (("q", queries), ("k", keys), ("v", keys))
        )
        shares = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1)
        return self.linear(f"{name}.to_out.0", (shares @ v).transpose(1, 2).flatten(2)), shares
