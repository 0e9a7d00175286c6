"""Loads a PixArt of any size from a diffusers folder or the hub."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from diffusers import PixArtTransformer2DModel
from tokenizers.normalizers import Lowercase, Sequence
from torch import Tensor, nn
from transformers import AutoConfig, AutoTokenizer, CLIPTokenizer, PreTrainedConfig, T5Tokenizer

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
from tadp_ray.backbones.pixart.config import LEVELS, Layers
from tadp_ray.backbones.pixart.features import block_features, cross_maps
from tadp_ray.backbones.pixart.text_encoder import TextEncoder, TextEncoderConfig, encoder_class, read_rows
from tadp_ray.backbones.pixart.weights import LAYOUT_PIXART, PARTS_PIXART, locate_pixart, text_length
from tadp_ray.config.vocabulary import Maps
from tadp_ray.errors import UserError

TOKENIZERS = {"t5": T5Tokenizer, "clip_text_model": CLIPTokenizer}
"""Classes of tokenizers by the kind of text encoder, whose folders need not name them."""
PADDED_VOCABULARY = 127
"""Rows that T5's embedding has beyond its tokens at most."""


@dataclass(frozen=True)
class PixArt(LatentDiffusion):
    """A frozen PixArt in float32."""

    vae: Autoencoder
    transformer: PixArtTransformer2DModel
    text_encoder: TextEncoder
    tokenizer: Any
    weights: str = ""
    learned_token: str = ""
    parts: ClassVar[tuple[str, ...]] = PARTS_PIXART
    layer_choices: ClassVar[tuple[str, ...]] = ("spread",)

    @property
    def denoiser(self) -> PixArtTransformer2DModel:
        """The transformer."""
        return self.transformer

    @property
    def text_network(self) -> Any:
        """The text encoder as transformers' class."""
        return self.text_encoder.network

    def with_networks(self, vae: Autoencoder, denoiser: PixArtTransformer2DModel, text_encoder: TextEncoder) -> Self:
        """Return the same model with another VAE, transformer and text encoder."""
        return replace(self, vae=vae, transformer=denoiser, text_encoder=text_encoder)

    @property
    def stride(self) -> int:
        """Image pixels per token of the transformer along a side."""
        return self.factor * self.transformer.config.patch_size

    @property
    def strides(self) -> tuple[int, ...]:
        """Image pixels per feature pixel along a side, for each level of the features, largest first."""
        return tuple((self.stride << level) // 2 for level in range(LEVELS))

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each level of the features by default, without attention maps."""
        return (self.transformer.inner_dim,) * LEVELS

    def condition(self, latents: Tensor, context: Tensor) -> Mapping[str, Any]:
        """Return the transformer's arguments besides latents and timesteps: context, mask, and the size in PixArt-alpha.

        Every view of an image is given as an image of its own size, as by the pipeline.
        """
        told = {"encoder_hidden_states": context, "encoder_attention_mask": read_rows(context)}
        added = {"resolution": None, "aspect_ratio": None}
        if self.transformer.use_additional_conditions:
            height, width = (float(side * self.factor) for side in latents.shape[-2:])
            size = torch.tensor([height, width, height / width], dtype=latents.dtype, device=latents.device)
            sizes = size.expand(len(latents), -1)
            added = {"resolution": sizes[:, :2], "aspect_ratio": sizes[:, 2:]}
        return {**told, "added_cond_kwargs": added}

    def predict(self, latents: Tensor, timesteps: Tensor, context: Tensor) -> Tensor:
        """Return the transformer's prediction (B, C, h, w) for noisy latents; one of the variance is left out."""
        output = self.transformer(latents, timestep=timesteps, return_dict=False, **self.condition(latents, context))[0]
        return output[:, : latents.shape[1]]

    def features(
        self,
        latents: Tensor,
        timesteps: Tensor,
        context: Tensor,
        maps: Maps,
        layers: Layers | None,
        map_layers: None,
    ) -> tuple[Tensor, ...]:
        """Return the features of one pass; see `block_features`.

        Raises:
            UserError: self-attention maps, or layers of maps, are asked for.
        """
        if maps == "cross+self" or map_layers:
            name, value = ("map_layers", map_layers) if map_layers else ("maps", maps)
            raise UserError(
                f"{name}={value!r}: PixArt's maps are the mean over all blocks, and cross-attention's; leave it out"
            )
        return block_features(
            self.transformer, latents, timesteps, context, layers or "spread", maps == "cross", self.condition
        )

    def attention_layers(self, latents: Tensor, context: Tensor, timestep: int) -> AttentionLayers:
        """Return the cross-attention maps of every block by name; see `cross_maps`."""
        return cross_maps(self.transformer, latents, timestep, self.condition(latents, context))


def load_pixart(weights: str) -> PixArt:
    """Load VAE, transformer, text encoder and tokenizer, float32 on the CPU, in evaluation mode, without gradients.

    Raises:
        UserError: see `locate_pixart`; or a file is damaged, or the networks do not fit each other.
    """
    path = locate_pixart(weights)
    with explained(weights, path, LAYOUT_PIXART):
        text = AutoConfig.from_pretrained(path / "text_encoder")
        loaders = {
            "vae": autoencoder_in(path),
            "transformer": PixArtTransformer2DModel,
            "text_encoder": encoder_class(text),
        }
        parts: dict[str, nn.Module] = {part: load_part(loader, path, part) for part, loader in loaders.items()}
        check_finite(path, parts)
        tokenizer = tokenizer_in(path, text)
    vae, transformer, network = (frozen(part) for part in parts.values())
    text_encoder = TextEncoder(text_config(path, text, tokenizer.eos_token_id), network)
    diffusion = PixArt(vae, transformer, text_encoder, tokenizer, weights)
    padded = PADDED_VOCABULARY if text.model_type == "t5" else 0
    fit_tokenizer(weights, path, tokenizer, network, text_encoder.config.max_position_embeddings, padded=padded)
    check_fit(diffusion, weights, path)
    return diffusion


def text_config(path: Path, network: PreTrainedConfig, end: int) -> TextEncoderConfig:
    """Return the architecture of the text encoder in a folder, which reads as many tokens as the pipeline, if it can."""
    length = text_length(path)
    return TextEncoderConfig(network, min(length, getattr(network, "max_position_embeddings", length)), end)


def tokenizer_in(path: Path, text: PreTrainedConfig) -> Any:
    """Load the tokenizer of a folder with this text encoder. Texts are read in lower case, as by PixArt's pipelines.

    Raises:
        UserError: a package that reads its file is missing.
    """
    try:
        tokenizer = TOKENIZERS.get(text.model_type, AutoTokenizer).from_pretrained(path / "tokenizer")
    except ImportError as error:
        raise UserError(
            f"tokenizer/ is read with a package that is not installed ({str(error).strip().splitlines()[0]}); pip install "
            "sentencepiece, or put this tokenizer's tokenizer.json there"
        ) from None
    if isinstance(tokenizer, CLIPTokenizer):  # which does so itself
        return tokenizer
    backend = tokenizer.backend_tokenizer
    backend.normalizer = Sequence([each for each in (Lowercase(), backend.normalizer) if each])
    return tokenizer


def check_fit(diffusion: PixArt, weights: str, path: Path) -> None:
    """Check that the transformer fits the other networks and this package; `weights` and their `path` are for the error.

    Raises:
        UserError: it does not.
    """
    wanted = {
        "in_channels": (diffusion.vae.config.latent_channels, "the VAE's latent_channels"),
        "caption_channels": (diffusion.text_encoder.config.hidden_size, "the text encoder's width"),
        "norm_type": ("ada_norm_single", "PixArt's"),
    }
    if problems := differing(diffusion.transformer.config, wanted):
        raise UserError(
            f"model.weights={weights!r}: {path} is not a PixArt: {'; '.join(problems)}; put transformer/, vae/ and text_encoder/ "
            "of one model there"
        )
