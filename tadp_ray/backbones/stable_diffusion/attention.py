"""Reads the attention maps of a diffusers U-Net during its forward pass."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor

from tadp_ray.backbones.latent.attention import Condition, Layers, reading, reading_layers
from tadp_ray.backbones.stable_diffusion.layers import level_of, named_blocks

Kind = Literal["cross", "self"]
"""Attention of pixels to the tokens of a text (cross) or to pixels (self)."""


def text_alone(_latents: Tensor, context: Tensor) -> Mapping[str, Any]:
    """Return the arguments of a U-Net that is conditioned on the tokens of a text and nothing else."""
    return {"encoder_hidden_states": context}


def attention_layers(
    unet: UNet2DConditionModel, level: int, kind: Kind = "cross", layers: Collection[str] | None = None
) -> list[Attention]:
    """Return the attention layers of one level (0 is the largest), in the order of the forward pass.

    Args:
        unet: a U-Net.
        level: the middle is of the smallest one.
        kind: to the tokens of a text, or to pixels.
        layers: names of the layers to return (see `named_layers`); None: all.
    """
    found = [
        stack
        for name, block in named_blocks(unet).items()
        if level_of(name, unet) == level
        for place, stack in enumerate(getattr(block, "attentions", []))
        if layers is None or f"{name}.{place}" in layers
    ]
    blocks = [block for stack in found for block in stack.transformer_blocks]
    return [block.attn2 if kind == "cross" else block.attn1 for block in blocks]


def cross_layers(unet: UNet2DConditionModel) -> dict[str, Attention]:
    """Return every cross-attention layer by name, in the order of the forward pass: down0.0 to mid.0 to up0.2.

    Names are those of `named_layers`. In Stable Diffusion XL, whose layers have several attention layers each, a number follows.
    Level 0 is the largest. Stable Diffusion 1.5 has 16: at each of three levels two in the down block and three in the up
    block, and one in the middle. The table of the published tool has 14, so its averages mix levels and omit the last two.
    """
    return {
        f"{name}.{place}" + f".{depth}" * (len(stack.transformer_blocks) > 1): layer.attn2
        for name, block in named_blocks(unet).items()
        for place, stack in enumerate(getattr(block, "attentions", []))
        for depth, layer in enumerate(stack.transformer_blocks)
    }


@contextmanager
def reading_maps(
    unet: UNet2DConditionModel,
    levels: Sequence[int],
    detach: bool,
    kinds: Sequence[Kind] = ("cross",),
    layers: Collection[str] | None = None,
) -> Iterator[dict[tuple[int, Kind], list[Tensor]]]:
    """In the `with` block, append the maps (B, N, T) of the layers of some levels, averaged over heads, in every forward pass.

    T is the number of tokens for cross-attention, and of the level's pixels for self-attention. `layers` names layers, as for
    `attention_layers`.
    """
    maps: dict[tuple[int, Kind], list[Tensor]] = {(level, kind): [] for level in levels for kind in kinds}

    def keeper(place: tuple[int, Kind]) -> Callable[[Tensor], object]:
        return lambda scores: maps[place].append((scores.detach() if detach else scores).mean(1))

    with reading([(attn, keeper(place)) for place in maps for attn in attention_layers(unet, *place, layers)]):
        yield maps


@torch.no_grad()
def read_layers(
    unet: UNet2DConditionModel, latents: Tensor, context: Tensor, timestep: int, condition: Condition = text_alone
) -> Layers:
    """Return the cross-attention maps of every layer of `cross_layers` by name, from one forward pass.

    Args:
        unet: a text-conditioned U-Net.
        latents: scaled, (B, C, h, w); no noise is added.
        context: (B, L, D).
        timestep: the U-Net's timestep.
        condition: how the U-Net is given a context.
    """
    with reading_layers(cross_layers(unet)) as read:
        unet(latents, timestep, **condition(latents, context))
    grids = {height * width: (height, width) for height, width in level_sizes(unet, latents)}
    return {name: maps.transpose(2, 3).unflatten(3, grids[maps.shape[2]]) for name, maps in read.items()}


def level_sizes(unet: UNet2DConditionModel, latents: Tensor) -> list[tuple[int, int]]:
    """Return (h, w) of each level of the U-Net for latents (B, C, h, w)."""
    height, width = latents.shape[-2:]
    return [(height >> level, width >> level) for level in range(len(unet.up_blocks))]
