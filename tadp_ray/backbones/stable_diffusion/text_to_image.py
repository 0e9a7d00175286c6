"""Image generation with a Stable Diffusion: text to image and image to image. Saves the whole model as a folder."""

import copy
import json
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
from tadp_ray.data.pixels import to_tensor
from tadp_ray.files import drafted_folder, write_json

DRAWN_AT_ONCE = 8
"""Default batch size."""


@dataclass(frozen=True)
class TextToImage:
    """A Stable Diffusion with its noise schedule. Each image has its own CPU generator."""

    diffusion: Diffusion
    schedule: NoiseSchedule

    @property
    def device(self) -> torch.device:
        """The device of the U-Net."""
        return self.diffusion.unet.device

    def to(self, device: torch.device) -> Self:
        """Move all networks to a device."""
        self.diffusion.to(device)
        self.diffusion.unet.to(device)
        return self

    def errors(self, clean: Tensor, noise: Tensor, times: Tensor, context: Tensor) -> Tensor:
        """Return each image's mean squared denoising error (B,); see `denoising_errors`."""
        return denoising_errors(self.diffusion.unet, self.schedule, clean, noise, times, context)

    def draw(
        self,
        prompts: Sequence[str],
        rngs: Sequence[torch.Generator],
        steps: int,
        guidance: float,
        batch: int = DRAWN_AT_ONCE,
    ) -> list[np.ndarray]:
        """Generate an image uint8 (H, W, 3) for each prompt, in the size that the U-Net was pretrained on.

        Args:
            prompts: one per image.
            rngs: generator of the initial noise of each image.
            steps: denoising steps.
            guidance: scale of classifier-free guidance; 1 turns it off.
            batch: batch size.
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
        """Generate a variation uint8 (H, W, 3) of each image: add noise, then denoise it under a prompt (img2img).

        Args:
            images: uint8 (H, W, 3), whose sizes the U-Net can halve.
            prompts: one per image.
            rngs: one generator per image.
            steps: denoising steps, the last ones of `of`; more steps keep less of the image.
            of: steps of a full denoising.
            guidance: as for `draw`.
        """
        pipeline, pictures = self._pipeline(StableDiffusionImg2ImgPipeline), []
        for part in alike(images, DRAWN_AT_ONCE):
            pixels = torch.stack([to_tensor(image) for image in images[part]])
            made = pipeline(
                list(prompts[part]),
                image=(pixels + 1) / 2,
                # diffusers rounds down, so that without the 1e-6 a step could be lost.
                strength=min(1.0, (steps + 1e-6) / of),
                num_inference_steps=of,
                guidance_scale=guidance,
                generator=list(rngs[part]),
                output_type="np",
            )
            pictures += as_pictures(made.images)
        return pictures

    def half(self) -> Self:
        """Return a copy whose U-Net and VAE are in half precision.

        The text encoder is not converted: it is small, and loaders differ in whether they convert it back to float32.
        """
        vae, unet = (copy.deepcopy(network).half() for network in (self.diffusion.vae, self.diffusion.unet))
        return replace(self, diffusion=replace(self.diffusion, vae=vae, unet=unet))

    def save(self, folder: Path, tokenizer: Path) -> None:
        """Write a diffusers folder, atomically.

        Args:
            folder: destination; its other files are kept.
            tokenizer: folder of the tokenizer's published files, which are copied: transformers saves tokenizers in another
                format, which some loaders cannot read.
        """
        with drafted_folder(folder) as draft:
            self._pipeline(StableDiffusionPipeline).save_pretrained(draft, safe_serialization=True)
            for config in draft.glob("*/config.json"):
                # Where a network was loaded from is no property of it, and would change the digest of the weights.
                values = json.loads(config.read_text())
                values.pop("_name_or_path", None)
                write_json(config, values)
            shutil.copytree(tokenizer, draft / "tokenizer", dirs_exist_ok=True)

    def _pipeline(self, kind: type) -> Any:
        """Return a diffusers pipeline of the networks, without safety checker and progress bars."""
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
    """Load a Stable Diffusion with its noise schedule, on the CPU.

    Raises:
        UserError: see `load_diffusion` and `load_schedule`.
    """
    return TextToImage(load_diffusion(weights), load_schedule(weights))


def as_pictures(images: np.ndarray) -> list[np.ndarray]:
    """Convert images (B, H, W, 3) in [0, 1] to a list of uint8 (H, W, 3)."""
    return list((255 * images).round().astype(np.uint8))


def alike(images: Sequence[np.ndarray], most: int) -> Iterator[slice]:
    """Yield slices of consecutive images of one size, each with at most `most` images."""
    first = 0
    for last in range(1, len(images) + 1):
        if last == len(images) or last - first == most or images[last].shape != images[first].shape:
            yield slice(first, last)
            first = last
