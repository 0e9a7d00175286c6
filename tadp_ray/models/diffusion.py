"""Loads a Stable Diffusion of any size from any usual place. Nothing here knows which scale it serves."""

import hashlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Self

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from transformers import CLIPTextModel, CLIPTokenizer

from tadp_ray.data.folder import file_digest

PARTS = ("vae", "unet", "text_encoder", "tokenizer")
LAYOUT = "a diffusers folder holds " + ", ".join(f"{part}/" for part in PARTS) + " with .safetensors weights"


@dataclass(frozen=True)
class Diffusion:
    """A frozen Stable Diffusion in float32."""

    vae: AutoencoderKL
    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer

    @property
    def factor(self) -> int:
        """Image pixels per latent pixel, along each side."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    def to(self, device: torch.device) -> Self:
        """Move the frozen parts; the U-Net stays, since each cell trains a copy of its own."""
        self.vae.to(device)
        self.text_encoder.to(device)
        return self


def locate(weights: str) -> Path:
    """The folder or file behind `weights`: "pocket", a path, or a hub id (fetched on first use).

    Raises:
        ValueError: there is nothing, or not all of it; the message says what belongs where.
    """
    path = Path(str(resources.files("tadp_ray") / "assets/pocket")) if weights == "pocket" else Path(weights)
    if path.is_file():
        return path
    if path.is_dir():
        missing = [part for part in PARTS if not (path / part).is_dir()]
        if missing:
            raise ValueError(f"model.weights={weights!r}: {path} lacks {', '.join(missing)}; {LAYOUT}")
        return path
    try:
        return Path(
            snapshot_download(weights, allow_patterns=[f"{part}/*" for part in PARTS], ignore_patterns=["*.bin"])
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ValueError(
            f"model.weights={weights!r}: there is no such folder or file, and no hub repository of this name could be "
            f"fetched ({type(error).__name__}). Put Stable Diffusion there ({LAYOUT}), or name it with "
            "--set model.weights=FOLDER"
        ) from None


def load_diffusion(weights: str) -> Diffusion:
    """Load VAE, U-Net, text encoder and tokenizer, float32 on the CPU, in evaluation mode, without gradients.

    Raises:
        ValueError: see `locate`; or a file is damaged.
    """
    path = locate(weights)
    try:
        if path.is_file():
            pipe = StableDiffusionPipeline.from_single_file(path, safety_checker=None)
            parts = [pipe.vae, pipe.unet, pipe.text_encoder]
            tokenizer = pipe.tokenizer
        else:
            loaders = zip((AutoencoderKL, UNet2DConditionModel, CLIPTextModel), PARTS, strict=False)
            parts = [loader.from_pretrained(path, subfolder=part) for loader, part in loaders]
            tokenizer = CLIPTokenizer.from_pretrained(path / "tokenizer")
    except (OSError, RuntimeError, KeyError) as error:
        raise ValueError(f"model.weights={weights!r}: {path} cannot be loaded ({error})") from None
    vae, unet, text_encoder = (part.float().eval().requires_grad_(False) for part in parts)
    return Diffusion(vae, unet, text_encoder, tokenizer)


def weights_digest(weights: str) -> str:
    """Content hash of the weights and configurations behind `weights`, wherever they lie."""
    path = locate(weights)
    if path.is_file():
        return file_digest(path)
    files = sorted(file for part in PARTS for file in (path / part).rglob("*") if file.is_file())
    contents = [(str(file.relative_to(path)), file_digest(file)) for file in files]
    return hashlib.sha256(repr(contents).encode()).hexdigest()
