"""What any Stable Diffusion is trained for: to say what noise was added to latents, or what is left without it."""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import diffusers
from diffusers import DDIMScheduler, DDPMScheduler, SchedulerMixin, UNet2DConditionModel
from torch import Tensor

from tadp_ray.backbones.stable_diffusion.weights import locate
from tadp_ray.errors import UserError

Predicts = Literal["epsilon", "v_prediction", "sample"]
"""What a U-Net says of noisy latents: their noise, their velocity, or the clean latents."""
PREDICTS: tuple[Predicts, ...] = ("epsilon", "v_prediction", "sample")


@dataclass(frozen=True)
class NoiseSchedule:
    """How much noise each timestep adds to latents, and what the U-Net says of them."""

    sampler: SchedulerMixin
    """Takes noise away in few steps, as the model's own configuration says."""

    @property
    def steps(self) -> int:
        """Timesteps, from almost no noise to nothing else: 1000 in Stable Diffusion."""
        return self.sampler.config.num_train_timesteps

    @cached_property
    def _forward(self) -> DDPMScheduler:
        # Not every sampler knows velocities, and some scale what they add noise to.
        return DDPMScheduler.from_config(self.sampler.config)

    def add_noise(self, clean: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """Scaled latents (B, C, h, w) with noise (B, C, h, w) as at timesteps (B,), or (1,) for all."""
        return self._forward.add_noise(clean, noise, times)

    def target(self, clean: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """What the U-Net should say of these latents with this noise at these timesteps."""
        match self.sampler.config.prediction_type:
            case "epsilon":
                return noise
            case "v_prediction":
                return self._forward.get_velocity(clean, noise, times)
        return clean


def build_schedule(predicts: Predicts) -> NoiseSchedule:
    """Stable Diffusion's own schedule, sampled by DDIM, for a U-Net that predicts what is named."""
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


def load_schedule(weights: str) -> NoiseSchedule:
    """The schedule of a diffusers folder or hub repository, with the sampler that its configuration names.

    Raises:
        UserError: see `locate`; or there is no scheduler, or one that predicts something unknown.
    """
    path = locate(weights) / "scheduler/scheduler_config.json"
    if not path.is_file():
        raise UserError(
            f"weights={weights!r}: {path} is missing: it says what the U-Net predicts and how noise is added; name a whole "
            "diffusers folder"
        )
    try:
        name = json.loads(path.read_bytes())["_class_name"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: names no scheduler as _class_name ({error!r}); fetch or write it again") from None
    kind = getattr(diffusers, str(name), None)
    if not (isinstance(kind, type) and issubclass(kind, SchedulerMixin)):
        raise UserError(f"{path}: _class_name={name!r}: diffusers knows no such scheduler")
    sampler = kind.from_pretrained(path.parent)
    if sampler.config.prediction_type not in PREDICTS:
        raise UserError(
            f"{path}: prediction_type={sampler.config.prediction_type!r}: expected epsilon, v_prediction or sample"
        )
    return NoiseSchedule(sampler)


def denoising_errors(
    unet: UNet2DConditionModel, schedule: NoiseSchedule, clean: Tensor, noise: Tensor, times: Tensor, context: Tensor
) -> Tensor:
    """Each image's mean squared error (B,), given scaled latents, noise, timesteps (B,) and contexts (B, L, D)."""
    said = unet(schedule.add_noise(clean, noise, times), times, context).sample
    return (said - schedule.target(clean, noise, times)).square().mean(dim=(1, 2, 3))
