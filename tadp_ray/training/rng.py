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
    return generator(_number(image_id), view)


def view_noise(seed: int, image_id: str, view: int, samples: int, latent: tuple[int, ...]) -> Tensor:
    """Return the noise (`samples`, C, h, w) that is added to the latent of one evaluation view of a cell.

    Args:
        seed: seed of the cell.
        image_id: id of the image.
        view: number of the view among those of its image.
        samples: number of samples.
        latent: shape of the latent.
    """
    return torch.randn((samples, *latent), generator=generator(seed, 3, view, _number(image_id)))


def _number(image_id: str) -> int:
    return int.from_bytes(hashlib.sha256(image_id.encode()).digest()[:8])


def draw_pass(
    seed: int,
    number: int,
    images: int,
    latent: tuple[int, int, int],
    channels: int,
    dropout: float,
    samples: int,
    share: slice,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return the random numbers of a pass for one worker's images.

    They are the noise of the posterior (B, C, h, w), the dropout mask (B, channels), divided by the kept share, and the noise
    (B, `samples`, C, h, w) that is added to latents.

    Args:
        seed: seed of the cell.
        number: number of the forward pass, counted from the start of training.
        images: number of images in the global pass.
        latent: shape of one latent.
        channels: number of channels of the head's last feature map.
        dropout: share of channels dropped; 0: no mask.
        samples: number of samples of added noise; 0: no noise.
        share: this worker's images of the pass.
    """
    rng, mask, added = generator(seed, 1, number), None, None
    noise = torch.randn((images, *latent), generator=rng)[share]
    if dropout:
        kept = torch.rand((images, channels), generator=rng) >= dropout
        mask = (kept.float() / (1 - dropout))[share]
    if samples:
        added = torch.randn((images, samples, *latent), generator=rng)[share]
    return noise, mask, added
