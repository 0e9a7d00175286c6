"""A frozen diffusion model as a backbone: features and attention maps of any image and prompt."""

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from tadp_ray.api.images import AnyPicture, read_image
from tadp_ray.backbones.families import open_frozen
from tadp_ray.backbones.latent.config import TimestepFeatures
from tadp_ray.backbones.latent.diffusion import LatentDiffusion
from tadp_ray.backbones.latent.passes import make_passes
from tadp_ray.conditioning.text_encoder import encode_prompts
from tadp_ray.conditioning.tokenizer import check_length, words_in
from tadp_ray.config.vocabulary import Maps
from tadp_ray.errors import UserError, said_as
from tadp_ray.paper.analysis.attention import Attention, attend, fitted, image_latents
from tadp_ray.training.rng import generator
from tadp_ray.training.transfer import usable
from tadp_ray.wording import pluralized

ARGUMENTS = {"--set model.weights=": "weights=", "model.weights=": "weights=", "model.backbone: ": "backbone="}
"""How errors name a recipe's keys here (`said_as`)."""


@dataclass(frozen=True)
class Backbone:
    """A frozen diffusion model; features come from its U-Net or transformer, by default from one pass over clean latents."""

    diffusion: LatentDiffusion
    """VAE, U-Net or transformer, text encoder and tokenizer, on one device, without gradients."""

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.diffusion.denoiser.device

    @property
    def multiple(self) -> int:
        """Image sides are rounded to multiples of this many pixels."""
        return self.diffusion.multiple

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each level of features without attention maps, largest level first."""
        return self.diffusion.channels

    @property
    def strides(self) -> tuple[int, ...]:
        """Image pixels per feature pixel along a side, of each level, largest level first."""
        return self.diffusion.strides

    @property
    def context_length(self) -> int:
        """Rows of a context (L): 77 in Stable Diffusion 1.5, one for each token."""
        return self.diffusion.tokens

    @property
    def context_width(self) -> int:
        """Channels of a context (D): 768 in Stable Diffusion 1.5."""
        return self.diffusion.text_encoder.config.hidden_size

    @torch.no_grad()
    def encode_prompt(self, prompt: str | Sequence[str]) -> Tensor:
        """Encode one or several prompts as a context (B, L, D): last hidden states of the text encoder, padded to L tokens.

        Raises:
            UserError: a prompt is too long for the text encoder.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        for text in prompts:
            check_length(self.diffusion.tokenizer, text)
        return encode_prompts(self.diffusion.tokenizer, self.diffusion.text_encoder, prompts)

    def encode_image(self, image: AnyPicture) -> Tensor:
        """Encode an image as latents (1, C, h, w): the mean of the VAE's posterior times its scaling factor.

        The image is first resized to the size of the model's pretraining: the shorter side is about `diffusion.side` pixels, both
        sides are multiples of `multiple`, and the aspect ratio is kept approximately.

        Args:
            image: a path, a Pillow image, an array uint8 (H, W, 3) RGB, or a sample.

        Raises:
            UserError: the image cannot be read.
        """
        resized = fitted(read_image(image), self.diffusion.side, self.multiple)
        return image_latents(self.diffusion, [resized])

    @torch.no_grad()
    def features(
        self,
        image: AnyPicture | Tensor,
        prompt: str | Sequence[str] | Tensor,
        *,
        timestep: int | Sequence[int] = 1,
        timestep_features: TimestepFeatures = "concatenated",
        noise_samples: int = 0,
        seed: int = 0,
        maps: Maps = "cross",
        layers: str | tuple[str, ...] | None = None,
        map_layers: str | tuple[str, ...] | None = None,
    ) -> tuple[Tensor, ...]:
        """Return feature maps, largest first.

        By default there are four: (B, C, h, w), (B, C, h/2, w/2), (B, C, h/4, w/4), (B, C, h/8, w/8). They are the inputs of
        a task head. `channels` lists their channels. Stable Diffusion XL gives three. Attention maps are appended to the levels
        after the largest, but not to a fourth, averaged over heads and layers: a channel of cross-attention for each token.

        Args:
            image: as for `encode_image`, or latents (B, C, h, w).
            prompt: a text, one per image, or contexts (B, L, D); a single one applies to all images.
            timestep: given to the denoiser, 0 to 999 (1 in TADP); or several, and the denoiser runs once at each.
            timestep_features: features at several timesteps are concatenated in each level, or averaged.
            noise_samples: samples of noise, added to the latents as by forward diffusion to the timestep; features are averaged
                over them; 0: no noise is added.
            seed: of the noise.
            maps: "none", "cross", or of a U-Net "cross+self", which adds a channel for every pixel of the level.
            layers: layers to read, as `model.layers`: of a U-Net "decoder" (the default), "encoder", "encoder+decoder", or one or
                several names, down0.0 to up0.2; of PixArt "spread" (the default), or names, block0 to block27.
            map_layers: layers of a U-Net whose attention maps are averaged, as `model.map_layers`.

        Raises:
            UserError: the image or the prompt is invalid, or there is no timestep, or one outside 0 to 999 or beyond the
                model's noise schedule, or another combination of their features, or the denoiser has no such layers or maps.
        """
        # Also numpy's integers, and arrays of them.
        times = list(map(operator.index, timestep if isinstance(timestep, Iterable) else [timestep]))
        if not times:
            raise UserError(f"timestep={timestep!r}: there is none; name one, e.g. 1, or several")
        _check_timesteps(times)
        for name, value, choices in (("timestep_features", timestep_features, TimestepFeatures), ("maps", maps, Maps)):
            if value not in get_args(choices):
                raise UserError(f"{name}={value!r}: expected {' or '.join(get_args(choices))}")
        passes = make_passes(self.diffusion, times, timestep_features, noise_samples, "timestep")
        latents = image.to(self.device) if isinstance(image, Tensor) else self.encode_image(image)
        context = prompt.to(self.device) if isinstance(prompt, Tensor) else self.encode_prompt(prompt)
        if len(context) not in (1, len(latents)):
            raise UserError(
                f"{pluralized(len(context), 'prompts')} for {pluralized(len(latents), 'images')}; give one, or one for each image"
            )
        shape = (len(latents), noise_samples, *latents.shape[1:])
        noise = torch.randn(shape, generator=generator(seed)).to(self.device) if noise_samples else None
        chosen, averaged = self._named(layers), self._named(map_layers)
        read = partial(self.diffusion.features, maps=maps, layers=chosen, map_layers=averaged)
        with said_as({"model.layers=": "layers=", "model.map_layers=": "map_layers="}):
            return passes(read, latents, context.expand(len(latents), -1, -1), noise)

    def _named(self, layers: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        """Return the name of a single layer as a tuple."""
        return (layers,) if isinstance(layers, str) and layers not in self.diffusion.layer_choices else layers

    def attention_maps(
        self, image: AnyPicture, prompt: str, words: Sequence[str] | None = None, *, timestep: int = 1
    ) -> Attention:
        """Return the cross-attention maps for each word of a prompt.

        In the result, `words` maps a word to its map, float32 (H, W) at the image's own size, the mean over its tokens, all
        heads and all layers; `by_size` has the same per resolution, `layers` every layer and head (1, heads, T, h, w).

        Args:
            image: as for `encode_image`.
            prompt: the prompt.
            words: words or phrases to return; None: every word of the prompt.
            timestep: given to the denoiser, 0 to 999.

        Raises:
            UserError: the image cannot be read, or the prompt is empty, too long, or lacks a word, or the timestep is outside
                0 to 999.
        """
        _check_timesteps([timestep])
        selected = words_in(prompt) if words is None else tuple(words)
        return attend(self.diffusion, read_image(image), prompt, selected, timestep)


def _check_timesteps(timesteps: Sequence[int]) -> None:
    for timestep in timesteps:
        if not 0 <= timestep <= 999:
            raise UserError(f"timestep={timestep}: is outside 0 to 999; name one of these, e.g. 1")


def load_backbone(
    weights: str = "pocket",
    *,
    backbone: str = "stable_diffusion",
    embeddings: str | None = None,
    device: str | torch.device = "cpu",
) -> Backbone:
    """Load a frozen diffusion model in float32.

    Args:
        weights: "pocket" (shipped with the package), a diffusers folder, a hub id, or a single-file checkpoint of Stable
            Diffusion 1.x or 2.x.
        backbone: the family, as in recipes: "stable_diffusion" (1.x and 2.x), "stable_diffusion_xl" or "pixart".
        embeddings: file with a learned token of Stable Diffusion 1.x or 2.x, which prompts may then contain.
        device: "cpu", "cuda", "cuda:1" ...

    Raises:
        UserError: the weights do not exist, are damaged, or belong to another family.
    """
    target = usable(device)
    with said_as(ARGUMENTS):
        diffusion = open_frozen(backbone, str(weights), None if embeddings is None else Path(embeddings))
    return Backbone(diffusion.to(target, whole=True))
