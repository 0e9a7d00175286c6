"""Every random number of a training step, as a function of (seed, pass) alone.

Drawn on the CPU for the whole global pass and then shared out, so that neither the number of workers, nor the device, nor
an interruption changes what an image meets.
"""

import hashlib

import numpy as np
import torch
from torch import Tensor


def generator(*key: int) -> torch.Generator:
    """A CPU generator seeded by a tuple of non-negative integers."""
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> 1))


def image_generator(image_id: str, view: int) -> torch.Generator:
    """A CPU generator for one evaluation view, the same in every cell of every sweep."""
    return generator(int.from_bytes(hashlib.sha256(image_id.encode()).digest()[:8]), view)


def draw_pass(
    seed: int, number: int, images: int, latent: tuple[int, int, int], channels: int, dropout: float, share: slice
) -> tuple[Tensor, Tensor | None]:
    """Latent noise (B, C, h, w) and dropout mask (B, channels), already divided by the kept share, for one worker's part.

    Args:
        seed: of the cell.
        number: of the forward pass, counted from the start of training.
        images: in the global pass.
        latent: shape of one latent.
        channels: of the head's last feature map.
        dropout: share of channels dropped; 0 gives no mask.
        share: which images of the pass are this worker's.
    """
    rng = generator(seed, 1, number)
    noise = torch.randn((images, *latent), generator=rng)[share]
    if not dropout:
        return noise, None
    kept = torch.rand((images, channels), generator=rng) >= dropout
    return noise, (kept.float() / (1 - dropout))[share]
