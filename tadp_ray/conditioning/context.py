"""The trained part of a context: learned vectors, maps from an image's embedding to vectors, and the join of all sources."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tadp_ray.conditioning.base import ImageEncoder
from tadp_ray.conditioning.sources import source_of
from tadp_ray.conditioning.text_encoder import TextAdapter
from tadp_ray.config.context import ContextConfig
from tadp_ray.registry import check_type

CIDE_HIDDEN = 400
"""Hidden channels between the logits and the mixture of ECoDepth's published code."""


class Context(nn.Module):
    """What a backbone is conditioned on: the vectors of all sources of a recipe, concatenated or summed.

    Args:
        config: the recipe's `model.context`.
        width: channels D of a context.
        encoders: the image encoder of each source that reads images, in their order.
    """

    def __init__(self, config: ContextConfig, width: int, encoders: Sequence[ImageEncoder] = ()) -> None:
        super().__init__()
        given, readers = iter(encoders), config.readers_of_images
        self.sources = nn.ModuleDict()
        for source in config.sources:
            encoder = next(given) if source in readers else None
            built = source_of(source).build(source, width, encoder)
            check_type(built, nn.Module, f"context source {source.kind!r}: build")
            self.sources[source.kind] = built
        self._reads_image = tuple(source in readers for source in config.sources)
        self._summed = config.join == "sum"

    def forward(
        self, text: Float[Tensor, "batch tokens width"], embeddings: Sequence[Tensor] = ()
    ) -> Float[Tensor, "batch _ _"]:
        """Return the context (B, L, D).

        Args:
            text: the context of the captions (B, T, D); (B, 0, 0) if no source reads text.
            embeddings: (B, E) of each source that reads images.
        """
        given = iter(embeddings)
        parts = [
            source(text, next(given) if reads_image else None)
            for source, reads_image in zip(self.sources.values(), self._reads_image, strict=True)
        ]
        if len(parts) == 1:
            return parts[0]
        return torch.stack(parts).sum(0) if self._summed else torch.cat(parts, 1)


class CaptionContext(nn.Module):
    """The context of the caption, unchanged."""

    def forward(
        self, text: Float[Tensor, "batch tokens width"], embedding: None
    ) -> Float[Tensor, "batch tokens width"]:
        """Return the context of the caption (B, T, D)."""
        return text


class LearnedVectors(nn.Module):
    """Trained context vectors, the same for every image; their first values are standard normal, as in MetaPrompts' code.

    Args:
        count: number L of vectors.
        width: channels D.
        lr_mult: their learning rate relative to the head's.
    """

    def __init__(self, count: int, width: int, lr_mult: float = 1.0) -> None:
        super().__init__()
        self.lr_mult = lr_mult
        self.vectors = nn.Parameter(torch.randn(count, width))

    def forward(self, text: Float[Tensor, "batch _ _"], embedding: None) -> Float[Tensor, "batch vectors width"]:
        """Return the vectors for each image of a batch (B, L, D)."""
        return self.vectors.expand(len(text), -1, -1)


class Projection(nn.Module):
    """Maps an embedding to K context vectors: a linear layer, then a layer norm of each vector.

    Source: the image projection of IP-Adapter (Ye et al., arXiv 2308.06721), with four vectors.
    """

    def __init__(self, embedded: int, count: int, width: int) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(embedded, count * width), nn.LayerNorm(width)
        self._shape = (count, width)

    def forward(
        self, text: Float[Tensor, "batch _ _"], embedding: Float[Tensor, "batch embedded"]
    ) -> Float[Tensor, "batch vectors width"]:
        """Return the vectors (B, K, D)."""
        return self.norm(self.linear(embedding).unflatten(1, self._shape))


class DetailEmbedding(nn.Module):
    """Maps the logits or the embedding of an image to one context vector: a mixture of learned embeddings, then an adapter.

    Two linear layers with a GELU between them and a softmax give the shares of the mixture. Source: the Comprehensive Image
    Detail Embedding (CIDE) of ECoDepth (Patni, Agarwal and Arora, CVPR 2024, arXiv 2403.18807), whose adapter is VPD's.
    """

    def __init__(self, embedded: int, mixture: int, width: int, lr_mult: float) -> None:
        super().__init__()
        self.shares = nn.Sequential(nn.Linear(embedded, CIDE_HIDDEN), nn.GELU(), nn.Linear(CIDE_HIDDEN, mixture))
        self.mixed, self.adapter = LearnedVectors(mixture, width, lr_mult), TextAdapter(width)

    def forward(
        self, text: Float[Tensor, "batch _ _"], embedding: Float[Tensor, "batch embedded"]
    ) -> Float[Tensor, "batch 1 width"]:
        """Return the vector (B, 1, D)."""
        return self.adapter((self.shares(embedding).softmax(1) @ self.mixed.vectors)[:, None])


class ImplicitCaptioner(nn.Module):
    """Maps an embedding to K context vectors: tanh(gate) * (linear layer + position); the gate opens from zero.

    Source: the implicit captioner of ODISE (Xu et al., CVPR 2023, arXiv 2303.04803), which adds them to the context of the
    empty text.
    """

    def __init__(self, embedded: int, count: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(embedded, width)
        self.positions = nn.Parameter(nn.init.trunc_normal_(torch.empty(count, width), std=0.02))
        self.gate = nn.Parameter(torch.zeros(count, width))

    def forward(
        self, text: Float[Tensor, "batch _ _"], embedding: Float[Tensor, "batch embedded"]
    ) -> Float[Tensor, "batch vectors width"]:
        """Return the vectors (B, K, D)."""
        return self.gate.tanh() * (self.linear(embedding)[:, None] + self.positions)


def make_map(config: Any, embedded: int, width: int) -> nn.Module:
    """Return the map of a recipe's `image` source from embeddings (B, E) to context vectors (B, K, D)."""
    match config.map:
        case "cide":
            return DetailEmbedding(embedded, config.mixture, width, config.lr_mult)
        case "captioner":
            return ImplicitCaptioner(embedded, config.vectors, width)
    return Projection(embedded, config.vectors, width)
