"""Combines the features of several passes of a denoiser: at several timesteps, over several samples of noise."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tadp_ray.backbones.latent.config import TimestepFeatures
from tadp_ray.backbones.latent.diffusion import LatentDiffusion
from tadp_ray.errors import UserError

Read = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, ...]]
"""Features of latents, timesteps (B,) and contexts, as a `FeatureReader` returns them."""


@dataclass(frozen=True)
class Passes:
    """Reads features at each timestep, with each sample of noise; they are one batch of the denoiser.

    An image's samples of noise are the same at all timesteps, so that timesteps differ by the noise level alone.
    """

    timesteps: tuple[int, ...]
    combine: TimestepFeatures
    """How the features at several timesteps are combined: in the channels, or by their mean."""
    samples: int = 0
    """Samples of noise, over which features are averaged. 0: the latents stay clean."""
    scales: tuple[tuple[float, float], ...] = ()
    """Factors of latents and of noise at each timestep; empty without noise."""

    @property
    def channel_factor(self) -> int:
        """Channels of the combined features, relative to those of one pass."""
        return len(self.timesteps) if self.combine == "concatenated" else 1

    def __call__(self, read: Read, latents: Tensor, context: Tensor, noise: Tensor | None) -> tuple[Tensor, ...]:
        """Return the combined features of each level.

        Args:
            read: a reader of features.
            latents: clean, (B, C, h, w).
            context: (B, L, D).
            noise: standard normal, (B, `samples`, C, h, w); None without noise.
        """
        repeats, images = self.samples or 1, len(latents)
        times = torch.cat([torch.full((repeats,), time, device=latents.device) for time in self.timesteps])
        times = times.repeat(images)  # by image, then timestep, then sample of noise
        inputs = self._inputs(latents, noise).flatten(0, 1)
        features = read(inputs, times, context.repeat_interleave(len(times) // images, 0))
        if len(times) == images:
            return features
        return tuple(self._combined(level.unflatten(0, (images, -1, repeats))) for level in features)

    def _inputs(self, latents: Tensor, noise: Tensor | None) -> Tensor:
        """Return the denoiser's inputs for each image (B, passes, C, h, w)."""
        clean = latents[:, None]
        if noise is None:
            return clean.expand(-1, len(self.timesteps), -1, -1, -1)
        return torch.cat([kept * clean + added * noise for kept, added in self.scales], 1)

    def _combined(self, features: Tensor) -> Tensor:
        """Combine features (B, timesteps, samples, C, h, w) of one level."""
        features = features.mean(2)
        return features.flatten(1, 2) if self.combine == "concatenated" else features.mean(1)


def make_passes(
    diffusion: LatentDiffusion, timesteps: Sequence[int], combine: TimestepFeatures, samples: int, key: str
) -> Passes:
    """Return the passes of a model; arguments are as for `Passes`.

    Args:
        diffusion: the model; its noise schedule is read if there are samples of noise.
        timesteps: at least one.
        combine: ignored for one timestep.
        samples: of noise.
        key: name of the timesteps in an error.

    Raises:
        UserError: noise is to be added, and the model has no noise schedule, or one that ends before a timestep.
    """
    if not samples:
        return Passes(tuple(timesteps), combine)
    steps = diffusion.schedule.steps
    if (largest := max(timesteps)) >= steps:
        raise UserError(
            f"{key}={largest}: the noise schedule of this model ends at {steps - 1} (num_train_timesteps in its "
            "scheduler_config.json); name a smaller timestep"
        )
    return Passes(tuple(timesteps), combine, samples, tuple(map(diffusion.schedule.scales, timesteps)))
