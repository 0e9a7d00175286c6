"""Reads cross-attention maps out of a diffusers U-Net while it runs."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor


class MapReader:
    """Attention processor that computes softmax(QK^T/sqrt(d)) openly, uses it, and keeps its mean over heads.

    Fused attention never forms these probabilities; the layers that are not read keep it.
    """

    def __init__(self, maps: list[Tensor], detach: bool) -> None:
        self._maps = maps
        self._detach = detach

    def __call__(
        self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor, *_: object, **__: object
    ) -> Tensor:
        """Attention output (B, N, C) for queries (B, N, C) and context (B, T, D)."""
        query = attn.head_to_batch_dim(attn.to_q(hidden_states))
        key = attn.head_to_batch_dim(attn.to_k(encoder_hidden_states))
        value = attn.head_to_batch_dim(attn.to_v(encoder_hidden_states))
        scores = attn.get_attention_scores(query, key)  # (B * heads, N, T)
        average = scores.unflatten(0, (-1, attn.heads)).mean(1)  # (B, N, T)
        self._maps.append(average.detach() if self._detach else average)
        output = attn.batch_to_head_dim(torch.bmm(scores, value))
        return attn.to_out[1](attn.to_out[0](output))


def cross_attentions(unet: UNet2DConditionModel, level: int) -> list[Attention]:
    """The cross-attention layers of one resolution, `level` 0 being the largest: those going down, then going up."""
    blocks = [unet.down_blocks[level], unet.up_blocks[len(unet.up_blocks) - 1 - level]]
    stacks = [stack for block in blocks for stack in getattr(block, "attentions", [])]
    return [layer.attn2 for stack in stacks for layer in stack.transformer_blocks]


@contextmanager
def reading_maps(
    unet: UNet2DConditionModel, levels: tuple[int, ...], detach: bool
) -> Iterator[dict[int, list[Tensor]]]:
    """Within the block, every forward pass appends the maps (B, N, T) of the chosen levels' layers."""
    maps: dict[int, list[Tensor]] = {level: [] for level in levels}
    layers = [(attn, level) for level in levels for attn in cross_attentions(unet, level)]
    before = [attn.processor for attn, _ in layers]
    for attn, level in layers:
        attn.processor = MapReader(maps[level], detach)
    try:
        yield maps
    finally:
        for (attn, _), processor in zip(layers, before, strict=True):
            attn.processor = processor
