"""Reads attention maps out of a diffusers U-Net while it runs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor

Kind = Literal["cross", "self"]
"""Attention from pixels to the tokens of a text, or to the pixels themselves."""


class MapReader:
    """Attention processor that computes softmax(QK^T/sqrt(d)) openly, uses it, and keeps its mean over heads.

    Fused attention never forms these probabilities; the layers that are not read keep it.
    """

    def __init__(self, maps: list[Tensor], detach: bool) -> None:
        self._maps = maps
        self._detach = detach

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        *_: object,
        **__: object,
    ) -> Tensor:
        """Attention output (B, N, C) for queries (B, N, C) and context (B, T, D), the queries themselves if there is none."""
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query = attn.head_to_batch_dim(attn.to_q(hidden_states))
        key = attn.head_to_batch_dim(attn.to_k(context))
        value = attn.head_to_batch_dim(attn.to_v(context))
        scores = attn.get_attention_scores(query, key)  # (B * heads, N, T)
        average = scores.unflatten(0, (-1, attn.heads)).mean(1)  # (B, N, T)
        self._maps.append(average.detach() if self._detach else average)
        output = attn.batch_to_head_dim(torch.bmm(scores, value))
        return attn.to_out[1](attn.to_out[0](output))


def attention_layers(unet: UNet2DConditionModel, level: int, kind: Kind = "cross") -> list[Attention]:
    """The attention layers of one resolution, `level` 0 being the largest: those going down, then going up."""
    blocks = [unet.down_blocks[level], unet.up_blocks[len(unet.up_blocks) - 1 - level]]
    stacks = [stack for block in blocks for stack in getattr(block, "attentions", [])]
    layers = [layer for stack in stacks for layer in stack.transformer_blocks]
    return [layer.attn2 if kind == "cross" else layer.attn1 for layer in layers]


@contextmanager
def reading_maps(
    unet: UNet2DConditionModel, levels: Sequence[int], detach: bool, kinds: Sequence[Kind] = ("cross",)
) -> Iterator[dict[tuple[int, Kind], list[Tensor]]]:
    """Within the block, every forward pass appends the maps (B, N, T) of the chosen levels' layers.

    T counts tokens for cross-attention and pixels of the level for self-attention. A U-Net that recomputes its activations
    goes on reading behind the block, since its backward pass must repeat the very operations of the forward one.
    """
    maps: dict[tuple[int, Kind], list[Tensor]] = {(level, kind): [] for level in levels for kind in kinds}
    layers = [(attn, place) for place in maps for attn in attention_layers(unet, *place)]
    before = [attn.processor for attn, _ in layers]
    for attn, place in layers:
        attn.processor = MapReader(maps[place], detach)
    try:
        yield maps
    finally:
        for (attn, _), processor in zip(layers, before, strict=True):
            attn.processor = attn.processor if unet.is_gradient_checkpointing else processor
