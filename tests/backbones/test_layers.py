"""Layers that a recipe names are those that plain hooks read, and nothing runs behind them."""

from contextlib import ExitStack
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tadp_ray.backbones.stable_diffusion.attention import cross_layers, read_layers
from tadp_ray.backbones.stable_diffusion.backbone import StableDiffusionBackbone
from tadp_ray.backbones.stable_diffusion.layers import named_layers
from tadp_ray.backbones.stable_diffusion.load import Diffusion
from tadp_ray.config.model import MODELS
from tadp_ray.errors import UserError
from tadp_ray.tasks.build import build_head

TOKENS = 7
PATHS = {
    "down0.0": "down_blocks.0.attentions.0",
    "down0.1": "down_blocks.0.attentions.1",
    "down1.1": "down_blocks.1.attentions.1",
    "down2.1": "down_blocks.2.attentions.1",
    "down3.1": "down_blocks.3.resnets.1",
    "mid.0": "mid_block",
    "up3.0": "up_blocks.0.resnets.0",
    "up3.1": "up_blocks.0.resnets.1",
    "up2.1": "up_blocks.1.attentions.1",
    "up1.0": "up_blocks.2.attentions.0",
    "up1.1": "up_blocks.2.attentions.1",
    "up0.2": "up_blocks.3.attentions.2",
}
"""diffusers' own names of the modules."""
ENCODER = [["down0.1"], ["down1.1"], ["down2.1"], ["down3.1"]]
DECODER = [["up0.2"], ["up1.1"], ["up2.1"], ["up3.1"]]
CHOICES: dict[str, tuple[Any, list[list[str]]]] = {
    "decoder": ("decoder", DECODER),
    "encoder": ("encoder", ENCODER),
    "both": ("encoder+decoder", [[*down, *up] for down, up in zip(ENCODER, DECODER, strict=True)]),
    "largest levels": (["up1.0", "up2.1"], [["up1.0"], ["up2.1"]]),
    "any order": (["mid.0", "up3.0", "down0.0", "up2.1"], [["down0.0"], ["up2.1"], ["mid.0", "up3.0"]]),
    "middle": (["down0.1", "down1.1", "down2.1", "mid.0"], [*ENCODER[:3], ["mid.0"]]),
    "one level": (["down0.0"], [["down0.0"]]),
}
every_choice = pytest.mark.parametrize("choice", CHOICES)


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor]:
    """Latents (2, 4, 16, 24) and contexts (2, L, D)."""
    rng = torch.Generator().manual_seed(1)
    return torch.randn(2, 4, 16, 24, generator=rng), torch.randn(2, TOKENS, 20, generator=rng)


def backbone_of(diffusion: Diffusion, **keys: Any) -> StableDiffusionBackbone:
    return StableDiffusionBackbone(diffusion, MODELS["stable_diffusion"](**keys), TOKENS, (16, 24))


def hooked(unet: nn.Module, latents: Tensor, context: Tensor) -> dict[str, Tensor]:
    """The outputs of all modules in `PATHS` in one plain pass of the whole U-Net."""
    seen: dict[str, Tensor] = {}
    with ExitStack() as hooks:
        for name, path in PATHS.items():

            def keep(_: object, __: object, output: Any, name: str = name) -> None:
                seen[name] = output if isinstance(output, Tensor) else output[0]

            hooks.callback(unet.get_submodule(path).register_forward_hook(keep).remove)
        unet(latents, 1, context)
    return seen


@every_choice
@torch.no_grad()
def test_features_are_the_outputs_of_the_named_modules(tiny_diffusion: Diffusion, inputs, choice: str) -> None:
    layers, expected = CHOICES[choice]
    backbone, seen = (
        backbone_of(tiny_diffusion, layers=layers, attention_maps="none"),
        hooked(tiny_diffusion.unet, *inputs),
    )
    found = backbone(*inputs)
    for level, names in zip(found, expected, strict=True):
        torch.testing.assert_close(level, torch.cat([seen[name] for name in names], 1), atol=1e-5, rtol=1e-4)
    assert [level.shape[1] for level in found] == [*backbone.channels]
    assert [32 // level.shape[2] for level in found] == [*backbone.strides]


@every_choice
@pytest.mark.parametrize("maps", ["none", "cross"])
def test_every_parameter_that_is_left_is_trained_and_no_computation_wasted(
    tiny_diffusion: Diffusion, inputs, choice: str, maps: str
) -> None:
    """Otherwise DistributedDataParallel would wait for gradients that never come."""
    if maps == "cross" and choice == "one level":
        pytest.skip("has no level with maps")
    backbone = backbone_of(tiny_diffusion, layers=CHOICES[choice][0], attention_maps=maps)
    with FlopCounterMode(display=False) as counter:
        features = backbone(*inputs)
    sum(level.square().mean() for level in features).backward()
    assert [name for name, p in backbone.named_parameters() if p.grad is None] == []
    with FlopCounterMode(display=False) as whole, torch.no_grad():
        tiny_diffusion.unet(inputs[0], 1, inputs[1])
    reads_last = "up0.2" in named_layers(backbone.unet)
    assert counter.get_total_flops() < (1 if reads_last else 0.9) * whole.get_total_flops()
    names = {name for name, _ in backbone.unet.named_parameters()}
    assert names <= {name for name, _ in tiny_diffusion.unet.named_parameters()}


def test_the_published_choice_cuts_the_output_only(tiny_diffusion: Diffusion) -> None:
    """So that the weights of earlier trainings still fit."""
    whole = {name for name in tiny_diffusion.unet.state_dict() if not name.startswith(("conv_norm_out", "conv_out"))}
    assert {*backbone_of(tiny_diffusion).unet.state_dict()} == whole
    assert set(cross_layers(tiny_diffusion.unet)) < {*named_layers(tiny_diffusion.unet)} and len(whole) > 500
    down = [f"down{level}.{place}" for level in range(4) for place in range(2)]
    up = [f"up{level}.{place}" for level in (3, 2, 1, 0) for place in range(3)]
    assert [*named_layers(tiny_diffusion.unet)] == [*down, "mid.0", *up]


MAPS: dict[str, tuple[Any, Any, dict[int, list[str]]]] = {
    "published": ("decoder", "encoder+decoder", {}),
    "decoder": ("decoder", "decoder", {1: ["up1.0", "up1.1", "up1.2"], 2: ["up2.0", "up2.1", "up2.2"]}),
    "encoder": ("decoder", "encoder", {1: ["down1.0", "down1.1"], 2: ["down2.0", "down2.1"]}),
    "as far as they run": ("encoder", "encoder+decoder", {1: ["down1.0", "down1.1"], 2: ["down2.0", "down2.1"]}),
    "cut within a level": (
        ["up1.1", "up2.1"],
        "decoder",
        {0: ["up1.0", "up1.1"], 1: ["up2.0", "up2.1", "up2.2"]},
    ),
    "named": ("decoder", ["mid.0", "up0.2", "down0.0", "up2.1"], {0: ["down0.0", "up0.2"], 2: ["up2.1"], 3: ["mid.0"]}),
}
for level in (1, 2):
    MAPS["published"][2][level] = [f"down{level}.{i}" for i in range(2)] + [f"up{level}.{i}" for i in range(3)]


@pytest.mark.parametrize("case", MAPS)
@torch.no_grad()
def test_maps_are_the_means_over_the_named_layers(tiny_diffusion: Diffusion, inputs, case: str) -> None:
    """`place` counts the levels of the features."""
    layers, map_layers, expected = MAPS[case]
    backbone = backbone_of(tiny_diffusion, layers=layers, map_layers=map_layers)
    found, plain = backbone(*inputs), backbone_of(tiny_diffusion, layers=layers, attention_maps="none")(*inputs)
    every = {name: maps.mean(1) for name, maps in read_layers(tiny_diffusion.unet, *inputs, timestep=1).items()}
    assert tuple(level.shape[1] for level in found) == backbone.channels
    for place, (level, features) in enumerate(zip(found, plain, strict=True)):
        torch.testing.assert_close(level[:, : features.shape[1]], features, atol=1e-5, rtol=1e-4)
        maps = level[:, features.shape[1] :]
        assert maps.shape[1] == (TOKENS if place in expected else 0)
        if place in expected:
            mean = torch.stack([every[name] for name in expected[place]]).mean(0)
            torch.testing.assert_close(maps, mean, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"layers": ["up0.3"]}, r"model.layers='up0.3': this U-Net has no such layer; did you mean 'up0.2'\?"),
        ({"layers": ["up1.1", "Mid.0"]}, r"model.layers='Mid.0': .* did you mean 'mid.0'\?"),
        ({"layers": ["encode"]}, r"did you mean 'encoder'\?"),
        ({"map_layers": ["dwn1.0"]}, r"model.map_layers='dwn1.0': .* did you mean 'down1.0'\?"),
        ({"map_layers": ["down3.0"]}, "model.map_layers='down3.0': no attention maps can be appended"),
        ({"layers": "encoder", "map_layers": "decoder"}, "map_layers='decoder': .* those of down0.0, .*, down2.1 can"),
        ({"layers": ["up1.1", "up2.1"], "map_layers": ["up1.2"]}, "map_layers='up1.2': no attention maps"),
        ({"layers": ["up1.1", "up2.1"], "map_layers": ["down0.0"]}, "map_layers='down0.0': no attention maps"),
        ({"layers": ["up3.1"]}, "those of mid.0 can, so name some of them, or set attention_maps: none"),
    ],
)
def test_layers_that_are_not_there_are_named_with_those_that_are(
    tiny_diffusion: Diffusion, keys: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        backbone_of(tiny_diffusion, **keys)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"layers": "decodr"}, "Input should be 'decoder', 'encoder' or 'encoder\\+decoder'"),
        ({"layers": []}, "at least 1"),
        ({"layers": ["up0.2", "up0.2"]}, "layers: .* names a layer twice; name each once"),
        ({"attention_maps": "none", "map_layers": "encoder"}, "attention_maps: none reads none; use cross, or leave"),
    ],
)
def test_keys_that_fit_nothing_are_refused(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        MODELS["stable_diffusion"](**keys)


def test_a_head_says_which_levels_it_is_not_made_for(tiny_diffusion: Diffusion) -> None:
    keys = {"layers": ["up0.2", "up2.1", "up3.1"], "head": {"kind": "smp_fpn", "pyramid": 16, "channels": 32}}
    config = MODELS["stable_diffusion"](**keys)
    backbone = StableDiffusionBackbone(tiny_diffusion, config, TOKENS)
    with pytest.raises(
        UserError, match="model.head.kind=smp_fpn: .* the backbone has 3 with strides of 2, 8, 16 pixels"
    ):
        build_head(backbone.channels, backbone.strides, 5, config.head)
