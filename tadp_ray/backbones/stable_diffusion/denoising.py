"""What any Stable Diffusion is trained for, whatever its scheduler says it predicts."""

import json

import diffusers
from diffusers import AutoencoderKL, SchedulerMixin, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from tadp_ray.backbones.stable_diffusion.load import Diffusion
from tadp_ray.backbones.stable_diffusion.weights import locate
from tadp_ray.errors import UserError


def load_scheduler(weights: str) -> SchedulerMixin:
    """The scheduler of a diffusers folder or hub repository, of the class that its configuration names.

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
    scheduler = kind.from_pretrained(path.parent)
    if scheduler.config.prediction_type not in ("epsilon", "v_prediction", "sample"):
        raise UserError(
            f"{path}: prediction_type={scheduler.config.prediction_type!r}: expected epsilon, v_prediction or sample"
        )
    return scheduler


def predicted(scheduler: SchedulerMixin, clean: Tensor, noise: Tensor, times: Tensor) -> Tensor:
    """What the U-Net should say of noisy latents (B, C, h, w): their noise, their velocity, or the clean latents."""
    match scheduler.config.prediction_type:
        case "epsilon":
            return noise
        case "v_prediction":
            return scheduler.get_velocity(clean, noise, times)
    return clean


def denoising_errors(
    unet: UNet2DConditionModel, scheduler: SchedulerMixin, clean: Tensor, noise: Tensor, times: Tensor, context: Tensor
) -> Tensor:
    """Each image's mean squared error (B,), given scaled latents, noise, timesteps (B,) and contexts (B, L, D)."""
    noisy = scheduler.add_noise(clean, noise, times)
    said = unet(noisy, times, context).sample
    return (said - predicted(scheduler, clean, noise, times)).square().mean(dim=(1, 2, 3))


def drawing_pipeline(diffusion: Diffusion, scheduler: SchedulerMixin) -> StableDiffusionPipeline:
    """A pipeline that draws with these parts, without progress bars."""
    pipeline = assembled(
        vae=diffusion.vae,
        unet=diffusion.unet,
        text_encoder=diffusion.text_encoder,
        tokenizer=diffusion.tokenizer,
        scheduler=scheduler,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def assembled(
    vae: AutoencoderKL,
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    scheduler: SchedulerMixin,
) -> StableDiffusionPipeline:
    """The parts as diffusers' pipeline, without its filter of what is drawn."""
    return StableDiffusionPipeline(
        vae=vae,
        unet=unet,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
