"""The noise schedule and the denoising loss of a latent diffusion model."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import diffusers
from diffusers import DDIMScheduler, DDPMScheduler, SchedulerMixin
from diffusers.training_utils import compute_snr
from torch import Tensor

from tadp_ray.backbones.latent.weights import PARTS, schedule_file
from tadp_ray.errors import UserError

Predicts = Literal["epsilon", "v_prediction", "sample"]
"""Prediction type of a denoiser: the noise, the velocity, or the clean latents."""
Predict = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A denoiser's prediction (B, C, h, w) from noisy latents (B, C, h, w), timesteps (B,) and contexts (B, L, D)."""


@dataclass(frozen=True)
class NoiseSchedule:
    """Adds noise to latents, and computes the denoiser's target."""

    sampler: SchedulerMixin
    """The scheduler for image generation, from the model's configuration."""

    @property
    def steps(self) -> int:
        """Number of timesteps, 1000 in Stable Diffusion."""
        return self.sampler.config.num_train_timesteps

    @cached_property
    def _forward(self) -> DDPMScheduler:
        # Some samplers cannot compute velocities, and some scale the latents before they add noise.
        # Values that the sampler's file leaves to its class are kept, which diffusers would replace by those of this class.
        config = {key: value for key, value in self.sampler.config.items() if key != "_use_default_values"}
        return DDPMScheduler.from_config(config)

    def add_noise(self, clean: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """Return scaled latents (B, C, h, w) with noise (B, C, h, w) at timesteps (B,), or (1,) for all."""
        return self._forward.add_noise(clean, noise, times)

    def scales(self, time: int) -> tuple[float, float]:
        """Return the factors by which `add_noise` multiplies latents and noise at a timestep."""
        kept = self._forward.alphas_cumprod[time]
        return float(kept**0.5), float((1 - kept) ** 0.5)

    def snr(self, times: Tensor) -> Tensor:
        """Return the signal-to-noise ratio (B,) of latents with noise at timesteps (B,)."""
        return compute_snr(self._forward, times)

    def target(self, clean: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """Return the target of the denoiser's prediction for these latents, noise and timesteps."""
        match self.sampler.config.prediction_type:
            case "epsilon":
                return noise
            case "v_prediction":
                return self._forward.get_velocity(clean, noise, times)
        return clean


def build_schedule(predicts: Predicts) -> NoiseSchedule:
    """Return Stable Diffusion's schedule with DDIM sampling, for a denoiser of a prediction type."""
    return NoiseSchedule(
        DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
            prediction_type=predicts,
        )
    )


def load_schedule(weights: str, parts: Sequence[str] = PARTS) -> NoiseSchedule:
    """Load the schedule of a diffusers folder or hub repository, with the sampler in its configuration.

    Arguments are as for `backbones.latent.weights.locate`.

    Raises:
        UserError: see `schedule_file`; or the scheduler is unknown, has no betas, or is of an unknown prediction type.
    """
    path = schedule_file(weights, parts)
    try:
        name = json.loads(path.read_bytes())["_class_name"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: names no scheduler as _class_name ({error!r}); fetch or write it again") from None
    kind = getattr(diffusers, str(name), None)
    if not (isinstance(kind, type) and issubclass(kind, SchedulerMixin)):
        raise UserError(f"{path}: _class_name={name!r}: diffusers knows no such scheduler")
    sampler = kind.from_pretrained(path.parent)
    if "beta_schedule" not in sampler.config:
        raise UserError(
            f"{path}: _class_name={name!r} adds noise without betas, as flow matching does; name the weights of a model that was "
            "trained with betas, or the scheduler that it was trained with"
        )
    predicts = sampler.config.get("prediction_type")
    if predicts not in get_args(Predicts):
        raise UserError(f"{path}: prediction_type={predicts!r}: expected epsilon, v_prediction or sample")
    return NoiseSchedule(sampler)


def denoising_errors(
    predict: Predict, schedule: NoiseSchedule, clean: Tensor, noise: Tensor, times: Tensor, context: Tensor
) -> Tensor:
    """Return each image's mean squared error (B,), given scaled latents, noise, timesteps (B,) and contexts (B, L, D)."""
    predicted = predict(schedule.add_noise(clean, noise, times), times, context)
    return (predicted - schedule.target(clean, noise, times)).square().mean(dim=(1, 2, 3))
