"""Image generation with a Stable Diffusion: text to image and image to image."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionPipeline

from tadp_ray.backbones.latent.denoising import load_schedule
from tadp_ray.backbones.latent.image_generator import DRAWN_AT_ONCE, ImageGenerator, as_pictures, quiet
from tadp_ray.backbones.stable_diffusion.load import Diffusion, load_diffusion
from tadp_ray.data.pixels import to_tensor


@dataclass(frozen=True)
class TextToImage(ImageGenerator):
    """A Stable Diffusion with its noise schedule."""

    diffusion: Diffusion

    def vary(
        self,
        images: Sequence[np.ndarray],
        prompts: Sequence[str],
        rngs: Sequence[torch.Generator],
        steps: int,
        num_inference_steps: int,
        guidance_scale: float,
    ) -> list[np.ndarray]:
        """Generate a variation uint8 (H, W, 3) of each image: add noise, then denoise it under a prompt (img2img).

        Args:
            images: uint8 (H, W, 3), whose sizes the U-Net can halve.
            prompts: one per image.
            rngs: one generator per image.
            steps: denoising steps, the last ones of `num_inference_steps`; more steps keep less of the image.
            num_inference_steps: steps of a full denoising.
            guidance_scale: as for `draw`.
        """
        pipeline, pictures = self._pipeline(StableDiffusionImg2ImgPipeline), []
        for part in alike(images, DRAWN_AT_ONCE):
            pixels = torch.stack([to_tensor(image) for image in images[part]])
            made = pipeline(
                list(prompts[part]),
                image=(pixels + 1) / 2,
                # diffusers rounds down, so that without the 1e-6 a step could be lost.
                strength=min(1.0, (steps + 1e-6) / num_inference_steps),
                num_inference_steps=num_inference_steps,
                guidance_scale=guidance_scale,
                generator=list(rngs[part]),
                output_type="np",
            )
            pictures += as_pictures(made.images)
        return pictures

    def _drawing(self) -> tuple[Any, dict[str, Any]]:
        """Return the pipeline of text to image, and its further arguments."""
        return self._pipeline(StableDiffusionPipeline), {}

    def _pipeline(self, kind: type) -> Any:
        """Return a diffusers pipeline of the networks, without safety checker and progress bars."""
        return quiet(
            kind,
            vae=self.diffusion.vae,
            unet=self.diffusion.unet,
            text_encoder=self.diffusion.text_encoder,
            tokenizer=self.diffusion.tokenizer,
            scheduler=self.schedule.sampler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )


def load_text_to_image(weights: str) -> TextToImage:
    """Load a Stable Diffusion with its noise schedule, on the CPU.

    Raises:
        UserError: see `load_diffusion` and `load_schedule`.
    """
    return TextToImage(load_diffusion(weights), load_schedule(weights))


def alike(images: Sequence[np.ndarray], most: int) -> Iterator[slice]:
    """Yield slices of consecutive images of one size, each with at most `most` images."""
    first = 0
    for last in range(1, len(images) + 1):
        if last == len(images) or last - first == most or images[last].shape != images[first].shape:
            yield slice(first, last)
            first = last
