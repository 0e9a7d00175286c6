"""What training asks of a backbone: features of images under a context, and how they are shaped."""

from typing import Protocol

from torch import Tensor


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

    def enable_gradient_checkpointing(self) -> None:
        """Compute activations again in the backward pass rather than keep them."""
        ...
