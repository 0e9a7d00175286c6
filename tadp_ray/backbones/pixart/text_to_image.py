"""Image generation with a PixArt."""

from dataclasses import dataclass
from typing import Any

from diffusers import PixArtSigmaPipeline

from tadp_ray.backbones.latent.denoising import load_schedule
from tadp_ray.backbones.latent.image_generator import ImageGenerator, quiet
from tadp_ray.backbones.pixart.load import PixArt, load_pixart
from tadp_ray.backbones.pixart.weights import PARTS_PIXART


@dataclass(frozen=True)
class PixArtToImage(ImageGenerator):
    """A PixArt without size conditions, with its noise schedule."""

    diffusion: PixArt

    def _drawing(self) -> tuple[Any, dict[str, Any]]:
        """Return the pipeline of text to image, and its further arguments: images have the size of the pretraining."""
        pipeline = quiet(
            PixArtSigmaPipeline,
            vae=self.diffusion.vae,
            transformer=self.diffusion.transformer,
            text_encoder=self.diffusion.text_network,
            tokenizer=self.diffusion.tokenizer,
            scheduler=self.schedule.sampler,
        )
        options = {
            "clean_caption": False,
            "use_resolution_binning": False,
            "max_sequence_length": self.diffusion.tokens,
        }
        return pipeline, options


def load_pixart_to_image(weights: str) -> PixArtToImage:
    """Load a PixArt with its noise schedule, on the CPU.

    Raises:
        UserError: see `load_pixart` and `load_schedule`.
    """
    return PixArtToImage(load_pixart(weights), load_schedule(weights, PARTS_PIXART))
