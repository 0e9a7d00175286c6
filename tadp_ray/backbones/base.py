"""The interfaces of a backbone, of its frozen networks, and of the registered family that loads them."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Posterior:
    """The normal distribution of the latents of images; its standard deviation is 0 where an encoding is not random."""

    mean: Tensor
    """(B, C, h, w)."""
    std: Tensor
    """(B, C, h, w)."""

    def sample(self, noise: Tensor) -> Tensor:
        """Return latents (B, C, h, w); `noise` is standard normal, in their shape."""
        return self.mean + self.std * noise


@runtime_checkable
class Backbone(Protocol):
    """Maps latents and a context to a feature pyramid. An `nn.Module`.

    Of its parameters those are trained that require gradients. The others are frozen: they are equal whenever the family makes
    the backbone of a recipe and a seed, so checkpoints do not contain them. Frozen networks of other use, such as an image
    encoder, are not submodules.
    """

    channels: tuple[int, ...]
    """Channels of each level of the features, largest level first."""
    strides: tuple[int, ...]
    """Image pixels per feature pixel along a side, for each level."""
    multiple: int
    """Image sides must be multiples of this many pixels."""
    context_width: int
    """Channels D of a context (B, L, D)."""
    noise_samples: int
    """Samples S of noise that the features of an image need. 0: none."""

    def latent_shape(self, images: Tensor) -> tuple[int, int, int]:
        """Return (C, h, w) of the latent of one of the images (B, 3, H, W)."""
        ...

    def image_size(self, latents: Tensor) -> tuple[int, int]:
        """Return (H, W) in pixels of the images of latents (B, C, h, w)."""
        ...

    def encode_image(self, images: Tensor) -> Posterior:
        """Return the distribution of the latents of images (B, 3, H, W) in [-1, 1], without gradients."""
        ...

    def __call__(self, latents: Tensor, context: Tensor, noise: Tensor | None) -> tuple[Tensor, ...]:
        """Return the features (B, channels, h, w) of each level.

        Args:
            latents: (B, C, h, w).
            context: (B, L, D).
            noise: standard normal, (B, S, C, h, w); None if `noise_samples` is 0.
        """
        ...

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """Return the parameters, trained and frozen, as of every `nn.Module`."""
        ...

    def attention_norms(self) -> Sequence[nn.Parameter]:
        """Return the parameters of norms in attention blocks, which the rule `as_mmcv` of weight decay treats separately."""
        ...

    def enable_gradient_checkpointing(self) -> None:
        """Recompute activations in the backward pass instead of storing them."""
        ...


@runtime_checkable
class Pretrained(Protocol):
    """The frozen networks of a family, loaded once and shared by the cells of a process."""

    multiple: int
    """Image sides must be multiples of this many pixels."""
    tokens: int
    """Length L of the context of a whole text, with special tokens and what a family adds. 0: the family uses no text."""
    tokenizer: Any
    """A tokenizer of transformers, cut to the tokens that the text encoder reads. None: the family uses no text."""
    text_encoder: nn.Module | None
    """A text encoder of transformers, or one that is called like it. None: the family uses no text."""
    image_encoder: nn.Module | None
    """Encodes images as latents. None: the encoding has no weights."""
    networks: tuple[nn.Module, ...]
    """All frozen networks that are in memory in addition to the backbone."""
    learned_token: str
    """A learned token, which at least one prompt must contain. Empty: there is none."""

    def to(self, device: torch.device) -> Self:
        """Move the frozen networks to a device."""
        ...

    def to_meta(self) -> Self:
        """Return the same architecture on the meta device, without data."""
        ...


@runtime_checkable
class Family(Protocol):
    """A registered family of backbones. It loads the frozen networks, and locates and hashes their files without loading."""

    def origin(self, config: Any, seed: int) -> Hashable:
        """Return the arguments of `load`. Cells with equal origins share one `Pretrained`.

        Args:
            config: the recipe's `model`.
            seed: of the cell.
        """
        ...

    def load(self, origin: Any) -> Pretrained:
        """Load the frozen networks, in float32 on the CPU.

        Raises:
            UserError: files are missing, damaged or of another architecture.
        """
        ...

    def make_backbone(self, pretrained: Any, config: Any, tokens: int, view: tuple[int, int]) -> "Backbone":
        """Return a new backbone.

        Args:
            pretrained: returned by `load`; trained networks are copied from it.
            config: the recipe's `model`.
            tokens: length of a context.
            view: (height, width) of a training image in pixels.
        """
        ...

    def sizes(self, config: Any) -> tuple[Pretrained, str]:
        """Return the frozen networks, or networks of the same sizes if the files are missing, and a note on the latter."""
        ...

    def places(self, config: Any) -> dict[str, str | Path]:
        """Return the files and folders that `load` reads, by the names of their hashes."""
        ...

    def digests(self, config: Any) -> dict[str, str]:
        """Return the content hash of each place, and always one of `weights`. Needs no torch, so that planning is fast."""
        ...
