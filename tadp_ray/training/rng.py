"""The random numbers of a training step, which depend only on the seed and the number of the pass.

They are drawn on the CPU for the whole global pass and then split among the workers, so that they do not depend on the
number of workers, the device or an interruption.
"""

import hashlib

import numpy as np
import torch
from torch import Tensor


def generator(*key: int) -> torch.Generator:
    """Return a CPU generator seeded by a tuple of non-negative integers."""
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> 1))


def image_generator(image_id: str, view: int) -> torch.Generator:
    """Return the CPU generator of one evaluation view, the same in every cell of every sweep."""
    return generator(int.from_bytes(hashlib.sha256(image_id.encode()).digest()[:8]), view)


def draw_pass(
    seed: int, number: int, images: int, latent: tuple[int, int, int], channels: int, dropout: float, share: slice
) -> tuple[Tensor, Tensor | None]:
    """Return latent noise (B, C, h, w) and dropout mask (B, channels), divided by the kept share, for one worker's images.

    Args:
        seed: seed of the cell.
        number: number of the forward pass, counted from the start of training.
        images: number of images in the global pass.
        latent: shape of one latent.
        channels: number of channels of the head's last feature map.
        dropout: share of channels dropped; 0: no mask.
        share: this worker's images of the pass.
    """
    rng = generator(seed, 1, number)
    noise = torch.randn((images, *latent), generator=rng)[share]
    if not dropout:
        return noise, None
    kept = torch.rand((images, channels), generator=rng) >= dropout
    return noise, (kept.float() / (1 - dropout))[share]
