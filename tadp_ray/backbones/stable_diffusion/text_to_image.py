"""A Stable Diffusion that draws: pictures of prompts, variations of pictures, and the whole model as a folder."""

import copy
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from torch import Tensor

from tadp_ray.backbones.stable_diffusion.denoising import NoiseSchedule, denoising_errors, load_schedule
from tadp_ray.backbones.stable_diffusion.load import Diffusion, load_diffusion
from tadp_ray.data.transforms import to_tensor
from tadp_ray.files import drafted_folder

DRAWN_AT_ONCE = 8
"""Pictures of a batch, where nothing else is asked for."""


@dataclass(frozen=True)
class TextToImage:
    """A Stable Diffusion with its noise schedule. All randomness comes in as a CPU generator for each picture."""

    diffusion: Diffusion
    schedule: NoiseSchedule

    @property
    def device(self) -> torch.device:
        """Where it draws."""
        return self.diffusion.unet.device

    def to(self, device: torch.device) -> Self:
        """Move all networks."""
        self.diffusion.to(device)
        self.diffusion.unet.to(device)
        return self

    def errors(self, clean: Tensor, noise: Tensor, times: Tensor, context: Tensor) -> Tensor:
        """Each image's mean squared denoising error (B,); see `denoising_errors`."""
        return denoising_errors(self.diffusion.unet, self.schedule, clean, noise, times, context)

    def draw(
        self,
        prompts: Sequence[str],
        rngs: Sequence[torch.Generator],
        steps: int,
        guidance: float,
        batch: int = DRAWN_AT_ONCE,
    ) -> list[np.ndarray]:
        """A picture uint8 (H, W, 3) of each prompt, of the size that the U-Net was pretrained on.

        Args:
            prompts: what is drawn.
            rngs: a generator for each, which makes the noise that its picture begins with.
            steps: of denoising.
            guidance: weight of the prompt against an empty one (classifier-free guidance); 1 is without.
            batch: pictures drawn at once.
        """
        pipeline, pictures = self._pipeline(StableDiffusionPipeline), []
        for start in range(0, len(prompts), batch):
            part = slice(start, start + batch)
            made = pipeline(
                list(prompts[part]),
                num_inference_steps=steps,
                guidance_scale=guidance,
                generator=list(rngs[part]),
                output_type="np",
            )
            pictures += as_pictures(made.images)
        return pictures

    def vary(
        self,
        images: Sequence[np.ndarray],
        prompts: Sequence[str],
        rngs: Sequence[torch.Generator],
        steps: int,
        of: int,
        guidance: float,
    ) -> list[np.ndarray]:
        """Variations uint8 (H, W, 3) of pictures uint8 (H, W, 3): noise is added, and taken away again under a prompt.

        Args:
            images: in any sizes that the U-Net can halve.
            prompts: what each is told to show.
            rngs: a generator for each.
            steps: of denoising: the last ones of `of`, so that more of them keep less of the picture.
            of: steps of a whole drawing.
            guidance: as for `draw`.
        """
        pipeline, pictures = self._pipeline(StableDiffusionImg2ImgPipeline), []
        for part in alike(images, DRAWN_AT_ONCE):
            pixels = torch.stack([to_tensor(image) for image in images[part]])
            made = pipeline(
                list(prompts[part]),
                image=(pixels + 1) / 2,
                # The smallest excess over a whole number of steps, which diffusers would round off.
                strength=min(1.0, (steps + 1e-6) / of),
                num_inference_steps=of,
                guidance_scale=guidance,
                generator=list(rngs[part]),
                output_type="np",
            )
            pictures += as_pictures(made.images)
        return pictures

    def half(self) -> Self:
        """A copy whose U-Net and VAE are in half precision.

        The text encoder stays: loaders disagree on whether half precision is widened on loading, and it is small.
        """
        vae, unet = (copy.deepcopy(network).half() for network in (self.diffusion.vae, self.diffusion.unet))
        return replace(self, diffusion=replace(self.diffusion, vae=vae, unet=unet))

    def save(self, folder: Path, tokenizer: Path) -> None:
        """Write a diffusers folder, whole or not at all.

        Args:
            folder: where; what else lies there stays.
            tokenizer: a folder with the tokenizer's published files, which are put in: transformers writes its
                tokenizers in another form, which not every loader reads.
        """
        with drafted_folder(folder) as draft:
            self._pipeline(StableDiffusionPipeline).save_pretrained(draft, safe_serialization=True)
            shutil.copytree(tokenizer, draft / "tokenizer", dirs_exist_ok=True)

    def _pipeline(self, kind: type) -> Any:
        """The networks as one of diffusers' pipelines, without a filter of what is drawn, and without progress bars."""
        diffusers_logging.disable_progress_bar()
        pipeline = kind(
            vae=self.diffusion.vae,
            unet=self.diffusion.unet,
            text_encoder=self.diffusion.text_encoder,
            tokenizer=self.diffusion.tokenizer,
            scheduler=self.schedule.sampler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline


def load_text_to_image(weights: str) -> TextToImage:
    """The Stable Diffusion behind `weights`, on the CPU.

    Raises:
        UserError: see `load_diffusion` and `load_schedule`.
    """
    return TextToImage(load_diffusion(weights), load_schedule(weights))


def as_pictures(images: np.ndarray) -> list[np.ndarray]:
    """Pictures uint8 (H, W, 3) of values (B, H, W, 3) in [0, 1]."""
    return list((255 * images).round().astype(np.uint8))


def alike(images: Sequence[np.ndarray], most: int) -> Iterator[slice]:
    """Where runs of images of one size stand, at most so many in a run."""
    first = 0
    for last in range(1, len(images) + 1):
        if last == len(images) or last - first == most or images[last].shape != images[first].shape:
            yield slice(first, last)
            first = last
