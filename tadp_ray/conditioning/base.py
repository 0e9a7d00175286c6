"""The interfaces of a registered source of contexts, and of the frozen image encoder that it may read views with."""

from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class ImageEncoder(Protocol):
    """A frozen image encoder, loaded once and shared by the cells of a process. It is no part of a model's state."""

    @property
    def width(self) -> int:
        """Channels E of an embedding (B, E)."""
        ...

    @property
    def network(self) -> nn.Module | None:
        """Its weights, to be counted. None: it has none."""
        ...

    def __call__(self, images: Tensor) -> Tensor:
        """Return embeddings (B, E) of views (B, 3, H, W) in [0, 1], without gradients, each independent of the others."""
        ...

    def to(self, device: torch.device) -> Self:
        """Move the weights to a device."""
        ...

    def to_meta(self) -> Self:
        """Return the same architecture on the meta device, without data."""
        ...


@runtime_checkable
class ContextSource(Protocol):
    """A registered source of context vectors. It names and hashes its files without loading them, and builds what is trained."""

    def length(self, config: Any, text: int) -> int:
        """Return the number of context vectors.

        Args:
            config: its group in the recipe's `model.context.sources`.
            text: length of the context of a caption.
        """
        ...

    def build(self, config: Any, width: int, encoder: ImageEncoder | None) -> nn.Module:
        """Return the trained part: a module called with (text, embedding) that returns context vectors (B, L, D).

        `text` is the caption's context (B, T, D), or (B, 0, 0) if no source reads text; `embedding` is what the encoder says
        (B, E), or None for a source that reads no images. A module in it with an attribute `lr_mult` has its own
        parameters trained at the head's learning rate times this.

        Args:
            config: its group.
            width: channels D of a context.
            encoder: from `load`, for a source that reads images.
        """
        ...

    def load(self, config: Any) -> ImageEncoder | None:
        """Load the frozen image encoder on the CPU. None: the source reads no images.

        Raises:
            UserError: files are missing or damaged, or do not make an image encoder.
        """
        ...

    def places(self, config: Any) -> dict[str, str | Path]:
        """Return the files and folders that `load` reads, by the names of their hashes."""
        ...

    def digests(self, config: Any) -> dict[str, str]:
        """Return the content hash of each place. Needs no torch, so that planning is fast."""
        ...
