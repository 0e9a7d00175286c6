"""Cross-attention maps of a text's tokens on an image, from all cross-attention layers of the denoiser."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tadp_ray.backbones.latent.attention import Layers
from tadp_ray.backbones.latent.autoencoder import mean_latents
from tadp_ray.backbones.latent.diffusion import LatentDiffusion
from tadp_ray.conditioning.text_encoder import encode_prompts
from tadp_ray.conditioning.tokenizer import check_length, word_places
from tadp_ray.data.images import read_region
from tadp_ray.data.pixels import to_tensor, unit_range
from tadp_ray.errors import UserError
from tadp_ray.paper.localisation import diffuseness, is_uniform, localisation


def average(layers: Layers, size: tuple[int, int]) -> Tensor:
    """Return the mean over heads and layers (B, T, H, W), each layer upsampled to (H, W) first."""
    upsampled = (F.interpolate(maps.mean(1), size=size, mode="bilinear") for maps in layers.values())
    return reduce(torch.add, upsampled) / len(layers)


def word_maps(layers: Layers, places: Mapping[str, Sequence[int]], size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Return each word's maps (B, H, W): the mean over its tokens, all heads and all layers, each upsampled to (H, W) first.

    Tokens are averaged before they are upsampled: at a photograph's size, the maps of all tokens would take gigabytes.
    """
    if not places:
        return {}
    words = {
        name: torch.stack([maps[:, :, list(own)].mean(2) for own in places.values()], 2)
        for name, maps in layers.items()
    }
    return dict(zip(places, average(words, size).transpose(0, 1).cpu().numpy(), strict=True))


def by_size(layers: Layers) -> dict[tuple[int, int], Layers]:
    """Return the layers of each resolution (h, w), largest first."""
    sizes = sorted({(maps.shape[-2], maps.shape[-1]) for maps in layers.values()}, reverse=True)
    return {size: {name: maps for name, maps in layers.items() if maps.shape[-2:] == size} for size in sizes}


PixelRange = Literal["signed", "unit"]
"""Range of the VAE's pixels: [-1, 1], with which Stable Diffusion was trained, or [0, 1], as in the published tool."""


def image_latents(
    diffusion: LatentDiffusion, images: Sequence[np.ndarray], pixel_range: PixelRange = "signed"
) -> Tensor:
    """Return scaled latents (B, C, h, w) of images of one size, uint8 (H, W, 3): the mean of the VAE's posterior."""
    pixels = torch.stack([to_tensor(image) for image in images])
    pixels = unit_range(pixels) if pixel_range == "unit" else pixels
    return mean_latents(diffusion.vae, pixels.to(diffusion.vae.device))


def fitted(image: np.ndarray, side: int, multiple: int) -> np.ndarray:
    """Resize an image to the model's training size: shorter side near `side`, with the aspect ratio kept if possible.

    Sides are rounded to multiples of `multiple`; the longer side is at most twice `side`.
    """
    height, width = image.shape[:2]
    ratio = side / min(height, width)
    sides = [min(max(multiple, round(length * ratio / multiple) * multiple), 2 * side) for length in (height, width)]
    shrinks = height * width > sides[0] * sides[1]
    return cv2.resize(image, sides[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


@dataclass(frozen=True)
class Attention:
    """The cross-attention maps of one prompt on one image."""

    image: np.ndarray
    """uint8 (H, W, 3), at its original size."""
    prompt: str
    places: Mapping[str, tuple[int, ...]]
    """Positions of each word's tokens in the context."""
    tokens: tuple[str, ...]
    """Start token if there is one, the prompt's tokens, the first EOS token."""
    layers: Layers
    """Maps of these tokens by layer."""

    @cached_property
    def words(self) -> dict[str, np.ndarray]:
        """The map (H, W) of each word at the image's size: mean over its tokens, all heads and all layers."""
        return self._of(self.layers)

    @cached_property
    def by_size(self) -> dict[str, dict[str, np.ndarray]]:
        """The maps from the layers of one resolution: `64 x 64` -> word -> map (H, W)."""
        return {f"{h} x {w}": self._of(layers) for (h, w), layers in by_size(self.layers).items()}

    def _of(self, layers: Layers) -> dict[str, np.ndarray]:
        return {word: maps[0] for word, maps in word_maps(layers, self.places, self.image.shape[:2]).items()}

    def figures(self, truths: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Return metrics of each word's map: maximum (x, y), diffuseness, whether it is uniform; localisation if in `truths`."""
        figures: dict[str, Any] = {}
        for word, whole in self.words.items():
            maps_of = {"all layers": whole, **{size: maps[word] for size, maps in self.by_size.items()}}
            row, column = np.unravel_index(whole.argmax(), whole.shape)
            figures[word] = {
                "tokens": [self.tokens[place] for place in self.places[word]],
                "highest": [int(column), int(row)],
                "diffuseness": {name: diffuseness(scores) for name, scores in maps_of.items()},
                "uniform": is_uniform(whole),
            }
            if word in truths:
                figures[word]["localisation"] = {
                    name: localisation(scores, truths[word]) for name, scores in maps_of.items()
                }
        return figures


def attend(
    diffusion: LatentDiffusion,
    image: np.ndarray,
    prompt: str,
    words: Sequence[str],
    timestep: int = 1,
    pixel_range: PixelRange = "signed",
) -> Attention:
    """Return the cross-attention maps of a model for a prompt.

    Args:
        diffusion: the model.
        image: uint8 (H, W, 3) of any size.
        prompt: text of the prompt.
        words: words of the prompt whose maps are returned; an entry may consist of several consecutive words.
        timestep: of the denoiser (1 in TADP).
        pixel_range: range of the VAE's pixels.

    Raises:
        UserError: the prompt is too long or empty, or lacks a word.
    """
    tokenizer = diffusion.tokenizer
    check_length(tokenizer, prompt)
    if not words:
        raise UserError("the prompt has no words; say what the image shows")
    places = {word: word_places(tokenizer, prompt, word) for word in words}
    ids = tokenizer(prompt, verbose=False).input_ids
    resized = fitted(image, diffusion.side, diffusion.multiple)
    with torch.no_grad():
        context = encode_prompts(tokenizer, diffusion.text_encoder, [prompt])
    latents = image_latents(diffusion, [resized], pixel_range)
    layers = diffusion.attention_layers(latents, context, timestep)
    tokens = tuple(tokenizer.convert_ids_to_tokens(ids))
    return Attention(image, prompt, places, tokens, {name: maps[:, :, : len(tokens)] for name, maps in layers.items()})


def read_truth(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Read the pixels of an object, bool (H, W): the pixels of an image that are not black.

    Raises:
        UserError: the file cannot be read, is in a lossy format, has another size, or is all black.
    """
    truth = read_region(path)
    if truth.shape != size:
        raise UserError(f"{path}: is {truth.shape[1]} x {truth.shape[0]}, but the image is {size[1]} x {size[0]}")
    if not truth.any():
        raise UserError(f"{path}: is all black, so that no pixel is the thing's")
    return truth
