"""The parts of the pocket Stable Diffusion that text reaches, as stock diffusers and transformers classes.

It predicts velocity, as Stable Diffusion 2 does, and not noise as 1.5 does, because a short noise-predicting pretraining
leaves the words nearly unused. The scheduler's configuration says so, and nothing else in the project depends on it.
"""

import copy
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from tadp_ray.backbones.stable_diffusion.denoising import assembled, denoising_errors, drawing_pipeline, load_scheduler
from tadp_ray.backbones.stable_diffusion.load import load_diffusion
from tadp_ray.conditioning.text_encoder import encode_prompts
from tadp_ray.files import drafted_folder
from tadp_ray.paper.pocket.tokenizer import write_tokenizer

TEXT_WIDTH = 64


@dataclass(frozen=True)
class Denoiser:
    """The parts of a Stable Diffusion that predict velocity from a text."""

    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    scheduler: DDIMScheduler

    @classmethod
    def of(cls, pipeline: StableDiffusionPipeline) -> Self:
        """Those of a pipeline."""
        return cls(pipeline.unet, pipeline.text_encoder, pipeline.tokenizer, pipeline.scheduler)

    def context(self, texts: list[str]) -> Tensor:
        """The text encoder's states (B, 77, D), with gradients."""
        return encode_prompts(self.tokenizer, self.text_encoder, texts)

    def errors(self, latents: Tensor, noise: Tensor, times: Tensor, texts: list[str]) -> Tensor:
        """Each image's mean squared velocity error (B,), given scaled latents, noise and timesteps (B,)."""
        return denoising_errors(self.unet, self.scheduler, latents, noise, times, self.context(texts))


def build_denoiser(size: int, channels: tuple[int, ...]) -> Denoiser:
    """An untrained U-Net, text encoder, tokenizer and scheduler of Stable Diffusion's architecture.

    Args:
        size: height and width of a picture in pixels; latents are a quarter of it.
        channels: widths of the U-Net's four levels.
    """
    with tempfile.TemporaryDirectory() as words:
        write_tokenizer(Path(words))
        tokenizer = CLIPTokenizer.from_pretrained(words, model_max_length=77)
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=77,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=size // 4,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        block_out_channels=channels,
        layers_per_block=2,
        cross_attention_dim=TEXT_WIDTH,
        # diffusers calls the number of heads attention_head_dim, and Stable Diffusion 1.5's config follows it.
        attention_head_dim=2,
        norm_num_groups=8,
    )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="v_prediction",
    )
    return Denoiser(unet, text_encoder, tokenizer, scheduler)


def save_pipeline(folder: Path, vae: AutoencoderKL, denoiser: Denoiser) -> None:
    """Write a folder that `StableDiffusionPipeline.from_pretrained` reads, in half precision but for the text encoder."""
    quiet()
    pipeline = assembled(
        vae=copy.deepcopy(vae).half(),
        unet=copy.deepcopy(denoiser.unet).half(),
        # Loaders disagree on whether half precision is widened on loading; the text encoder is small enough to keep.
        text_encoder=denoiser.text_encoder,
        tokenizer=denoiser.tokenizer,
        scheduler=denoiser.scheduler,
    )
    with drafted_folder(folder) as draft:
        pipeline.save_pretrained(draft, safe_serialization=True)
        write_tokenizer(draft / "tokenizer")


def load_pipeline(folder: Path) -> StableDiffusionPipeline:
    """The pipeline in such a folder, in float32, without progress bars.

    Raises:
        UserError: there is none, or a part of it is damaged.
    """
    quiet()
    return drawing_pipeline(load_diffusion(str(folder)), load_scheduler(str(folder)))


def quiet() -> None:
    """Hide the libraries' progress bars: loading takes seconds, and they would cross our own lines."""
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
