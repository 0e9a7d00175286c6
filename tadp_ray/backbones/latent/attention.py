"""Reads the attention maps of diffusers' attention layers during a forward pass."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor

Layers = Mapping[str, Tensor]
"""Maps (B, heads, T, h, w) by layer, in the order of the forward pass. They sum to 1 over the tokens."""
Condition = Callable[[Tensor, Tensor], Mapping[str, Any]]
"""A denoiser's arguments besides latents and timesteps, from latents (B, C, h, w) and contexts (B, L, D)."""


class MapReader:
    """Attention processor that computes softmax(QK^T/sqrt(d)) explicitly and passes it to `keep` as (B, heads, N, T).

    Fused attention does not compute these probabilities. Layers that are not read still use it.
    """

    def __init__(self, keep: Callable[[Tensor], object]) -> None:
        self._keep = keep

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *_: object,
        **__: object,
    ) -> Tensor:
        """Return the attention output (B, N, C) of queries (B, N, C) and a context (B, T, D), by default the queries.

        The mask (B, 1, T), if there is one, is added to the scores: 0 for what is read, a large negative number for padding.
        """
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        mask = attn.prepare_attention_mask(attention_mask, context.shape[1], len(context))
        query = attn.head_to_batch_dim(attn.to_q(hidden_states))
        key = attn.head_to_batch_dim(attn.to_k(context))
        value = attn.head_to_batch_dim(attn.to_v(context))
        scores = attn.get_attention_scores(query, key, mask)  # (B * heads, N, T)
        self._keep(scores.unflatten(0, (-1, attn.heads)))
        output = attn.batch_to_head_dim(torch.bmm(scores, value))
        return attn.to_out[1](attn.to_out[0](output))


@contextmanager
def reading_layers(layers: Mapping[str, Attention]) -> Iterator[dict[str, Tensor]]:
    """In the `with` block, collect the detached maps (B, heads, N, T) of attention layers, by name, in a forward pass."""
    maps: dict[str, Tensor] = {}

    def keeper(name: str) -> Callable[[Tensor], object]:
        return lambda scores: maps.update({name: scores.detach()})

    with reading([(layer, keeper(name)) for name, layer in layers.items()]):
        yield maps


@contextmanager
def reading(layers: Sequence[tuple[Attention, Callable[[Tensor], object]]]) -> Iterator[None]:
    """In the `with` block, call each layer's function with its attention probabilities."""
    before = [attn.processor for attn, _ in layers]
    for attn, keep in layers:
        attn.processor = MapReader(keep)
    try:
        yield
    finally:
        for (attn, _), processor in zip(layers, before, strict=True):
            attn.processor = processor
