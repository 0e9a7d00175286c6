"""Where an image is looked at for each token of a text, at every one of the U-Net's cross-attention layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tadp_ray.backbones.stable_diffusion.attention import Layers, read_layers
from tadp_ray.backbones.stable_diffusion.autoencoder import mean_latents
from tadp_ray.backbones.stable_diffusion.load import Diffusion
from tadp_ray.conditioning.text_encoder import encode_prompts
from tadp_ray.conditioning.tokenizer import check_length, word_places
from tadp_ray.data.images import read_region
from tadp_ray.data.transforms import to_tensor
from tadp_ray.errors import UserError
from tadp_ray.paper.localisation import diffuseness, even, localisation


def average(layers: Layers, size: tuple[int, int]) -> Tensor:
    """Mean over heads and layers, each layer enlarged to (H, W) first: (B, T, H, W)."""
    return sum(F.interpolate(maps.mean(1), size=size, mode="bilinear") for maps in layers.values()) / len(layers)


def by_size(layers: Layers) -> dict[tuple[int, int], Layers]:
    """The layers of each resolution (h, w), the largest first."""
    sizes = sorted({tuple(maps.shape[-2:]) for maps in layers.values()}, reverse=True)
    return {size: {name: maps for name, maps in layers.items() if maps.shape[-2:] == size} for size in sizes}


def image_latents(diffusion: Diffusion, images: Sequence[np.ndarray]) -> Tensor:
    """Scaled latents (B, C, h, w) of pictures of one size, uint8 (H, W, 3): the mean of the VAE's posterior."""
    pixels = torch.stack([to_tensor(image) for image in images])
    return mean_latents(diffusion.vae, pixels.to(diffusion.vae.device))


def fitted(image: np.ndarray, side: int, multiple: int) -> np.ndarray:
    """A picture of any size at one that the model is used to: shorter side near `side`, ratio kept as far as that goes.

    Sides are rounded to what the U-Net can halve; the longer one is at most twice the model's own.
    """
    height, width = image.shape[:2]
    ratio = side / min(height, width)
    sides = [min(max(multiple, round(length * ratio / multiple) * multiple), 2 * side) for length in (height, width)]
    shrinks = height * width > sides[0] * sides[1]
    return cv2.resize(image, sides[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


@dataclass(frozen=True)
class Attention:
    """What one prompt attends to in one image."""

    image: np.ndarray
    """uint8 (H, W, 3), as it was given."""
    prompt: str
    places: Mapping[str, tuple[int, ...]]
    """By word: its tokens' places in the context."""
    tokens: tuple[str, ...]
    """Start mark, the prompt's tokens, the first end mark."""
    layers: Layers
    """Of those tokens."""

    @cached_property
    def words(self) -> dict[str, np.ndarray]:
        """The map (H, W) of each word in the image's pixels: mean over its tokens, all heads and all layers."""
        return self._of(self.layers)

    @cached_property
    def by_size(self) -> dict[str, dict[str, np.ndarray]]:
        """The same from the layers of one resolution: `64 x 64` -> word -> map (H, W)."""
        return {f"{h} x {w}": self._of(layers) for (h, w), layers in by_size(self.layers).items()}

    def _of(self, layers: Layers) -> dict[str, np.ndarray]:
        maps = average(layers, self.image.shape[:2])[0]
        return {word: maps[list(places)].mean(0).cpu().numpy() for word, places in self.places.items()}

    def figures(self, truths: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Diffuseness of every word's map, whether it is even, its highest place (x, y); where words of known pixels lie."""
        figures: dict[str, Any] = {}
        for word, whole in self.words.items():
            told = {"all layers": whole, **{size: maps[word] for size, maps in self.by_size.items()}}
            row, column = np.unravel_index(whole.argmax(), whole.shape)
            figures[word] = {
                "tokens": [self.tokens[place] for place in self.places[word]],
                "highest": [int(column), int(row)],
                "diffuseness": {name: diffuseness(scores) for name, scores in told.items()},
                "even": even(whole),
            }
            if word in truths:
                figures[word]["localisation"] = {
                    name: localisation(scores, truths[word]) for name, scores in told.items()
                }
        return figures


def attend(diffusion: Diffusion, image: np.ndarray, prompt: str, words: Sequence[str], timestep: int = 1) -> Attention:
    """Look where a Stable Diffusion attends for a prompt.

    Args:
        diffusion: the model.
        image: uint8 (H, W, 3) of any size.
        prompt: what it is told.
        words: those to tell of; several words in a row may stand for one.
        timestep: what the U-Net is told (1 in TADP).

    Raises:
        UserError: the prompt is longer than what is read, empty, or lacks a word.
    """
    tokenizer = diffusion.tokenizer
    check_length(tokenizer, prompt, diffusion.tokens - 2)
    if not words:
        raise UserError("the prompt has no words; say what the image shows")
    places = {word: word_places(tokenizer, prompt, word) for word in words}
    ids = tokenizer(prompt, verbose=False).input_ids
    seen = fitted(image, diffusion.side, diffusion.multiple)
    with torch.no_grad():
        context = encode_prompts(tokenizer, diffusion.text_encoder, [prompt])
    layers = read_layers(diffusion.unet, image_latents(diffusion, [seen]), context, timestep)
    tokens = tuple(tokenizer.convert_ids_to_tokens(ids))
    return Attention(image, prompt, places, tokens, {name: maps[:, :, : len(tokens)] for name, maps in layers.items()})


def read_truth(path: Path, size: tuple[int, int]) -> np.ndarray:
    """The pixels of a thing, bool (H, W): those of a picture that are not black.

    Raises:
        UserError: it cannot be read, is in a lossy format, has another size, or is all black.
    """
    truth = read_region(path)
    if truth.shape != size:
        raise UserError(f"{path}: is {truth.shape[1]} x {truth.shape[0]}, but the image is {size[1]} x {size[0]}")
    if not truth.any():
        raise UserError(f"{path}: is all black, so that no pixel is the thing's")
    return truth
