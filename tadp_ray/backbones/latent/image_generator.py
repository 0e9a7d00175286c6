"""Image generation with a latent diffusion model, by diffusers' pipelines. Saves the whole model as a folder."""

import copy
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from diffusers.utils import logging as diffusers_logging
from torch import Tensor

from tadp_ray.backbones.latent.denoising import NoiseSchedule, denoising_errors
from tadp_ray.backbones.latent.diffusion import LatentDiffusion
from tadp_ray.files import drafted_folder, write_json

DRAWN_AT_ONCE = 8
"""Default batch size."""


@dataclass(frozen=True)
class ImageGenerator:
    """A latent diffusion model with its noise schedule. Each image has its own CPU generator."""

    diffusion: LatentDiffusion
    schedule: NoiseSchedule

    @property
    def device(self) -> torch.device:
        """The device of the denoiser."""
        return self.diffusion.denoiser.device

    def to(self, device: torch.device) -> Self:
        """Move all networks to a device."""
        self.diffusion.to(device, whole=True)
        return self

    def errors(self, clean: Tensor, noise: Tensor, times: Tensor, context: Tensor) -> Tensor:
        """Return each image's mean squared denoising error (B,); see `denoising_errors`."""
        return denoising_errors(self.diffusion.predict, self.schedule, clean, noise, times, context)

    def draw(
        self,
        prompts: Sequence[str],
        rngs: Sequence[torch.Generator],
        num_inference_steps: int,
        guidance_scale: float,
        batch: int = DRAWN_AT_ONCE,
    ) -> list[np.ndarray]:
        """Generate an image uint8 (H, W, 3) for each prompt, in the size that the denoiser was pretrained on.

        Args:
            prompts: one per image.
            rngs: generator of the initial noise of each image.
            num_inference_steps: denoising steps.
            guidance_scale: of classifier-free guidance; 1 turns it off.
            batch: batch size.
        """
        pictures: list[np.ndarray] = []
        pipeline, options = self._drawing()
        for start in range(0, len(prompts), batch):
            part = slice(start, start + batch)
            made = pipeline(
                list(prompts[part]),
                num_inference_steps=num_inference_steps,
                guidance_scale=guidance_scale,
                generator=list(rngs[part]),
                output_type="np",
                **options,
            )
            pictures += as_pictures(made.images)
        return pictures

    def half(self) -> Self:
        """Return a copy whose denoiser and VAE are in half precision.

        The text encoder is not converted: it is small, and loaders differ in whether they convert it back to float32.
        """
        vae, denoiser = (copy.deepcopy(network).half() for network in (self.diffusion.vae, self.diffusion.denoiser))
        return replace(self, diffusion=self.diffusion.with_networks(vae, denoiser, self.diffusion.text_encoder))

    def save(self, folder: Path, tokenizer: Path) -> None:
        """Write a diffusers folder, atomically.

        Args:
            folder: destination; its other files are kept.
            tokenizer: folder of the tokenizer's published files, which are copied: transformers saves tokenizers in another
                format, which some loaders cannot read.
        """
        with drafted_folder(folder) as draft:
            self._drawing()[0].save_pretrained(draft, safe_serialization=True)
            for config in draft.glob("*/config.json"):
                # Where a network was loaded from is no property of it, and would change the digest of the weights.
                values = json.loads(config.read_text())
                values.pop("_name_or_path", None)
                write_json(config, values)
            shutil.copytree(tokenizer, draft / "tokenizer", dirs_exist_ok=True)

    def _drawing(self) -> tuple[Any, dict[str, Any]]:
        """Return the pipeline of text to image, and its further arguments."""
        raise NotImplementedError


def quiet(kind: type, **parts: Any) -> Any:
    """Return a diffusers pipeline without progress bars."""
    diffusers_logging.disable_progress_bar()
    pipeline = kind(**parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def as_pictures(images: np.ndarray) -> list[np.ndarray]:
    """Convert images (B, H, W, 3) in [0, 1] to a list of uint8 (H, W, 3)."""
    return list((255 * images).round().astype(np.uint8))
