"""What training asks of a backbone, and of the registered family that makes it."""

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class Backbone(Protocol):
    """A network from latents and a context to a pyramid of features; an `nn.Module` whose parameters are all trained.

    What is frozen (an image encoder) is held beside the parameters and is no part of the module's state.
    """

    channels: tuple[int, ...]
    """Of each level of the features, largest level first."""
    strides: tuple[int, ...]
    """Image pixels per feature along each side, of each level."""
    multiple: int
    """Image sides must be multiples of this many pixels."""
    context_width: int
    """Channels D of a context (B, L, D)."""

    def latent_shape(self, images: Tensor) -> tuple[int, int, int]:
        """(C, h, w) of the latent of one of the images (B, 3, H, W)."""
        ...

    def image_size(self, latents: Tensor) -> tuple[int, int]:
        """(H, W) in pixels of the images that latents (B, C, h, w) are of."""
        ...

    def encode_image(self, images: Tensor, noise: Tensor | None) -> Tensor:
        """Latents (B, C, h, w) of images (B, 3, H, W) in [-1, 1], without gradients; `noise` is of the latents' shape."""
        ...

    def __call__(self, latents: Tensor, context: Tensor) -> tuple[Tensor, ...]:
        """Features (B, channels, h, w), a tensor a level, of latents under a context (B, L, D)."""
        ...

    def attention_norms(self) -> Sequence[nn.Parameter]:
        """Trained parameters of the norms in its attention blocks, which the published rules of decay set apart; or none."""
        ...

    def enable_gradient_checkpointing(self) -> None:
        """Compute activations again in the backward pass rather than keep them."""
        ...


@runtime_checkable
class Pretrained(Protocol):
    """What is loaded once, frozen, and shared by the cells of a process; a backbone is made of it."""

    multiple: int
    """Image sides must be multiples of this many pixels."""
    tokens: int
    """Length L of the context of a whole text, special tokens included; 0: the family reads no text."""
    tokenizer: Any
    """Of transformers; None: the family reads no text."""
    text_encoder: nn.Module | None
    """Of transformers; None: the family reads no text."""
    image_encoder: nn.Module | None
    """What turns images into latents; None: nothing that has weights."""
    networks: tuple[nn.Module, ...]
    """Every frozen network that is held in memory beside the backbone."""
    learned_token: str
    """A token that was learned, which some prompt must say; empty: there is none."""

    def to(self, device: torch.device) -> Self:
        """Move what is frozen."""
        ...

    def to_meta(self) -> Self:
        """The same architecture on the meta device: sizes and no contents."""
        ...


@runtime_checkable
class Family(Protocol):
    """A registered family of backbones: what loads its frozen parts, and what is known of them without loading."""

    def origin(self, config: Any, seed: int) -> Hashable:
        """What decides what is loaded: cells of one origin share one `Pretrained`.

        Args:
            config: the recipe's `model`.
            seed: of the cell.
        """
        ...

    def load(self, origin: Any) -> Pretrained:
        """The frozen parts, in float32 on the CPU.

        Raises:
            UserError: files are missing, damaged or of another architecture.
        """
        ...

    def make_backbone(self, pretrained: Any, config: Any, tokens: int, view: tuple[int, int]) -> "Backbone":
        """A fresh backbone.

        Args:
            pretrained: what `load` gave; what is trained of it is copied.
            config: the recipe's `model`.
            tokens: of a context.
            view: (height, width) of a training view in pixels.
        """
        ...

    def sizes(self, config: Any) -> tuple[Pretrained, str]:
        """What is as large as the frozen parts, though their files may not be here, and what a reader must know of that."""
        ...

    def places(self, config: Any) -> dict[str, str | Path]:
        """Files and folders that are loaded, by the names of their hashes."""
        ...

    def digests(self, config: Any) -> dict[str, str]:
        """Hash of the contents of each place, and always of `weights`. Needs no torch, so that planning is quick."""
        ...
