"""Reads the attention maps of a diffusers U-Net during its forward pass."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor

from tadp_ray.backbones.latent.attention import Condition, Layers, reading, reading_layers
from tadp_ray.backbones.stable_diffusion.layers import named_blocks

Kind = Literal["cross", "self"]
"""Attention of pixels to the tokens of a text (cross) or to pixels (self)."""


def text_alone(_latents: Tensor, context: Tensor) -> Mapping[str, Any]:
    """Return the arguments of a U-Net that is conditioned on the tokens of a text and nothing else."""
    return {"encoder_hidden_states": context}


def transformer_blocks(unet: UNet2DConditionModel) -> dict[str, Sequence[Any]]:
    """Return the transformer blocks of every layer with attention by its name, in the order of the forward pass."""
    return {
        f"{name}.{place}": stack.transformer_blocks
        for name, block in named_blocks(unet).items()
        for place, stack in enumerate(getattr(block, "attentions", []))
    }


def cross_layers(unet: UNet2DConditionModel) -> dict[str, Attention]:
    """Return every cross-attention layer by name, in the order of the forward pass: down0.0 to mid.0 to up0.2.

    Names are those of `named_layers`. In Stable Diffusion XL, whose layers have several attention layers each, a number follows.
    Level 0 is the largest. Stable Diffusion 1.5 has 16: at each of three levels two in the down block and three in the up
    block, and one in the middle. The table of the published tool has 14, so its averages mix levels and omit the last two.
    """
    return {
        name + f".{depth}" * (len(blocks) > 1): block.attn2
        for name, blocks in transformer_blocks(unet).items()
        for depth, block in enumerate(blocks)
    }


@contextmanager
def reading_maps(
    unet: UNet2DConditionModel, layers: Mapping[int, Sequence[str]], detach: bool, kinds: Sequence[Kind] = ("cross",)
) -> Iterator[dict[tuple[int, Kind], list[Tensor]]]:
    """In the `with` block, append the maps (B, N, T) of layers, averaged over heads, in every forward pass.

    T is the number of tokens for cross-attention, and of the level's pixels for self-attention.

    Args:
        unet: a U-Net.
        layers: names of layers with attention (see `named_layers`) by their level.
        detach: detach the maps from the gradient.
        kinds: kinds of attention, of which the maps are kept apart, as are those of levels.
    """
    maps: dict[tuple[int, Kind], list[Tensor]] = {(level, kind): [] for level in layers for kind in kinds}
    blocks = transformer_blocks(unet)

    def keeper(place: tuple[int, Kind]) -> Callable[[Tensor], object]:
        return lambda scores: maps[place].append((scores.detach() if detach else scores).mean(1))

    read = [
        (block.attn2 if kind == "cross" else block.attn1, keeper((level, kind)))
        for level, kind in maps
        for name in layers[level]
        for block in blocks[name]
    ]
    with reading(read):
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
