"""Loads a Stable Diffusion 1.x or 2.x of any size from a diffusers folder, the hub or a single file."""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self, get_args

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from tadp_ray.backbones.latent.attention import Layers as AttentionLayers
from tadp_ray.backbones.latent.autoencoder import Autoencoder
from tadp_ray.backbones.latent.diffusion import LatentDiffusion
from tadp_ray.backbones.latent.load import (
    autoencoder_in,
    check_finite,
    differing,
    explained,
    fit_tokenizer,
    frozen,
    load_part,
)
from tadp_ray.backbones.latent.weights import LAYOUT, locate
from tadp_ray.backbones.stable_diffusion.attention import read_layers, text_alone
from tadp_ray.backbones.stable_diffusion.config import Half, Layers
from tadp_ray.backbones.stable_diffusion.features import feature_channels, unet_features
from tadp_ray.backbones.stable_diffusion.layers import choose
from tadp_ray.backbones.stable_diffusion.learned_tokens import add_token, read_learned
from tadp_ray.backbones.stable_diffusion.weights import check_kind
from tadp_ray.config.vocabulary import Maps
from tadp_ray.errors import UserError
from tadp_ray.tensors import tensor_names

LEVELS = 4
"""Number of levels of the U-Net."""


@dataclass(frozen=True)
class Diffusion(LatentDiffusion):
    """A frozen Stable Diffusion in float32."""

    vae: Autoencoder
    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    learned_token: str = ""
    """A token that was added to the tokenizer and the text encoder. Empty: none."""
    weights: str = ""
    """Where they are from, as for `locate`. Empty: an architecture without files."""
    layer_choices: ClassVar[tuple[str, ...]] = get_args(Half)

    @property
    def strides(self) -> tuple[int, ...]:
        """Image pixels per feature pixel along a side, for each level of the U-Net, largest first."""
        return tuple(self.factor << level for level in range(len(self.unet.config.block_out_channels)))

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each level of the features by default, without attention maps."""
        return tuple(feature_channels(self.unet, self.tokens, choose(self.unet, maps="none"), "none"))

    def condition(self, latents: Tensor, context: Tensor) -> Mapping[str, Any]:
        """Return the U-Net's arguments besides latents (B, C, h, w) and timesteps, from contexts (B, L, D)."""
        return text_alone(latents, context)

    @property
    def denoiser(self) -> UNet2DConditionModel:
        """The U-Net."""
        return self.unet

    def with_networks(self, vae: Autoencoder, denoiser: UNet2DConditionModel, text_encoder: Any) -> Self:
        """Return the same model with another VAE, U-Net and text encoder."""
        return replace(self, vae=vae, unet=denoiser, text_encoder=text_encoder)

    def predict(self, latents: Tensor, timesteps: Tensor, context: Tensor) -> Tensor:
        """Return the U-Net's prediction (B, C, h, w) for noisy latents (B, C, h, w) at timesteps (B,)."""
        return self.unet(latents, timesteps, return_dict=False, **self.condition(latents, context))[0]

    def features(
        self,
        latents: Tensor,
        timesteps: Tensor,
        context: Tensor,
        maps: Maps,
        layers: Layers | None,
        map_layers: Layers | None,
    ) -> tuple[Tensor, ...]:
        """Return the features of one pass; see `unet_features`."""
        chosen, averaged = layers or "decoder", map_layers or "encoder+decoder"
        return unet_features(self.unet, latents, timesteps, context, maps, chosen, averaged, self.condition)

    def attention_layers(self, latents: Tensor, context: Tensor, timestep: int) -> AttentionLayers:
        """Return the cross-attention maps of every layer by name; see `read_layers`."""
        return read_layers(self.unet, latents, context, timestep, self.condition)

    def reinitialized(self, seed: int) -> Self:
        """Return the same architecture with random weights in U-Net and text encoder, and the same VAE."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            unet = UNet2DConditionModel.from_config(self.unet.config)
            text_encoder = type(self.text_encoder)(self.text_encoder.config)
        return self.with_networks(self.vae, frozen(unet), frozen(text_encoder))


def open_diffusion(weights: str, embeddings: Path | None = None, random_seed: int | None = None) -> Diffusion:
    """Load a frozen Stable Diffusion as a recipe's `model` describes it.

    Args:
        weights: as for `locate`.
        embeddings: file of a learned token to add.
        random_seed: seed of random weights in U-Net and text encoder (`model.unet_init: random`). None: pretrained.

    Raises:
        UserError: a file is missing, damaged or does not fit.
    """
    diffusion = load_diffusion(weights)
    diffusion = diffusion if random_seed is None else diffusion.reinitialized(random_seed)
    if embeddings is None:
        return diffusion
    learned = read_learned(embeddings)
    add_token(diffusion.tokenizer, diffusion.text_encoder, learned, f"model.embeddings={str(embeddings)!r}")
    frozen(diffusion.text_encoder)
    return replace(diffusion, learned_token=learned.token)


def load_diffusion(weights: str) -> Diffusion:
    """Load VAE, U-Net, text encoder and tokenizer, float32 on the CPU, in evaluation mode, without gradients.

    Raises:
        UserError: see `locate`; or a file is damaged.
    """
    path = locate(weights)
    check_kind(weights, path, "stable_diffusion")
    with explained(weights, path, LAYOUT):
        parts = load_single_file(path) if path.is_file() else load_folder(path)
        check_finite(path, dict(zip(("vae", "unet", "text_encoder"), parts, strict=False)))
    vae, unet, text_encoder, tokenizer = parts
    diffusion = Diffusion(frozen(vae), frozen(unet), frozen(text_encoder), tokenizer, weights=weights)
    fit_tokenizer(weights, path, tokenizer, text_encoder, diffusion.tokens)
    check_fit(diffusion, weights, path)
    return diffusion


def check_fit(diffusion: Diffusion, weights: str, path: Path) -> None:
    """Check that the U-Net fits the other networks and this package; `weights` and their `path` are for the error.

    Raises:
        UserError: it does not.
    """
    unet = diffusion.unet.config
    wanted = {
        "in_channels": (diffusion.vae.config.latent_channels, "the VAE's latent_channels"),
        "cross_attention_dim": (diffusion.text_encoder.config.hidden_size, "the text encoder's hidden_size"),
        "addition_embed_type": (None, "nothing but an image and a text"),
        "class_embed_type": (None, "nothing but an image and a text"),
    }
    problems = differing(unet, wanted)
    if len(unet.block_out_channels) != LEVELS:
        problems.append(f"{len(unet.block_out_channels)} levels, not {LEVELS} (as Stable Diffusion 1 and 2 have)")
    if problems:
        raise UserError(
            f"model.weights={weights!r}: {path} is not a Stable Diffusion 1.x or 2.x U-Net: {'; '.join(problems)}; put unet/, "
            "vae/ and text_encoder/ of one model there"
        )


def load_folder(path: Path) -> tuple[Any, ...]:
    """Load VAE, U-Net, text encoder and tokenizer from a diffusers folder."""
    loaders = {"vae": autoencoder_in(path), "unet": UNet2DConditionModel, "text_encoder": CLIPTextModel}
    parts = [load_part(loader, path, part) for part, loader in loaders.items()]
    return *parts, CLIPTokenizer.from_pretrained(path / "tokenizer")


def load_single_file(path: Path) -> tuple[Any, ...]:
    """Load VAE, U-Net, text encoder and tokenizer from a single-file checkpoint; the configuration comes from the hub."""
    if path.suffix == ".safetensors":
        tensor_names(path)
    elif not zipfile.is_zipfile(path):
        raise UserError("it was cut short, or is no checkpoint; fetch it again, best as .safetensors")
    pipe = StableDiffusionPipeline.from_single_file(path, safety_checker=None)
    return pipe.vae, pipe.unet, pipe.text_encoder, pipe.tokenizer
