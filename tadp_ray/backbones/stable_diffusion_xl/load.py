"""Loads a Stable Diffusion XL of any size from a diffusers folder or the hub."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from tadp_ray.backbones.latent.load import (
    autoencoder_in,
    check_finite,
    differing,
    explained,
    fit_tokenizer,
    frozen,
    load_part,
)
from tadp_ray.backbones.stable_diffusion.load import Diffusion
from tadp_ray.backbones.stable_diffusion_xl.text_encoders import TextEncoders, TextEncodersConfig, split_pooled
from tadp_ray.backbones.stable_diffusion_xl.weights import LAYOUT_XL, locate_xl
from tadp_ray.errors import UserError

SIZES = 6
"""Numbers that say an image's size: (height, width) before it was cropped, (top, left) of the crop, (height, width) wanted."""


@dataclass(frozen=True)
class DiffusionXL(Diffusion):
    """A frozen Stable Diffusion XL in float32. Its tokenizer is the first one."""

    text_encoder: TextEncoders
    pooled_rows: ClassVar[int] = 1

    def condition(self, latents: Tensor, context: Tensor) -> Mapping[str, Any]:
        """Return the U-Net's arguments besides latents and timesteps: the text's tokens and pooled vector, and the size.

        Every view of an image is given as an uncropped image of its own size.
        """
        tokens, pooled = split_pooled(context, self.text_encoder.config.pooled)
        height, width = (side * self.factor for side in latents.shape[-2:])
        sizes = torch.tensor([height, width, 0, 0, height, width], dtype=torch.float32, device=latents.device)
        added = {"text_embeds": pooled, "time_ids": sizes.expand(len(latents), -1)}
        return {"encoder_hidden_states": tokens, "added_cond_kwargs": added}


def open_diffusion_xl(weights: str, random_seed: int | None = None) -> DiffusionXL:
    """Load a frozen Stable Diffusion XL as a recipe's `model` describes it.

    Args:
        weights: as for `locate_xl`.
        random_seed: seed of random weights in U-Net and text encoders (`model.unet_init: random`). None: pretrained.

    Raises:
        UserError: a file is missing, damaged or does not fit.
    """
    diffusion = load_diffusion_xl(weights)
    return diffusion if random_seed is None else diffusion.reinitialized(random_seed)


def load_diffusion_xl(weights: str) -> DiffusionXL:
    """Load VAE, U-Net, both text encoders and the tokenizer, float32 on the CPU, in evaluation mode, without gradients.

    Raises:
        UserError: see `locate_xl`; or a file is damaged, or the networks do not fit each other.
    """
    path = locate_xl(weights)
    with explained(weights, path, LAYOUT_XL):
        loaders = {
            "vae": autoencoder_in(path),
            "unet": UNet2DConditionModel,
            "text_encoder": CLIPTextModel,
            "text_encoder_2": CLIPTextModelWithProjection,
        }
        parts: dict[str, Any] = {part: load_part(loader, path, part) for part, loader in loaders.items()}
        check_finite(path, parts)
        tokenizer, second = (CLIPTokenizer.from_pretrained(path / part) for part in ("tokenizer", "tokenizer_2"))
    vae, unet, *encoders = parts.values()
    for part, own, encoder in (("tokenizer", tokenizer, encoders[0]), ("tokenizer_2", second, encoders[1])):
        fit_tokenizer(weights, path, own, encoder, encoder.config.max_position_embeddings, part=part)
    if tokenizer.get_vocab() != second.get_vocab() or tokenizer.model_max_length != second.model_max_length:
        raise UserError(
            f"model.weights={weights!r}: {path} has two tokenizers of other tokens or lengths, and both must read one text "
            "alike; fetch tokenizer/ and tokenizer_2/ again, with their text encoders"
        )
    config = TextEncodersConfig(encoders[0].config, encoders[1].config, tokenizer.eos_token_id, second.pad_token_id)
    text = TextEncoders(config, *encoders)
    diffusion = DiffusionXL(frozen(vae), frozen(unet), frozen(text), tokenizer, weights=weights)
    check_fit(diffusion, weights, path)
    return diffusion


def check_fit(diffusion: DiffusionXL, weights: str, path: Path) -> None:
    """Check that the U-Net fits the other networks and this package; `weights` and their `path` are for the error.

    Raises:
        UserError: it does not.
    """
    unet, text = diffusion.unet.config, diffusion.text_encoder.config
    added = text.pooled + SIZES * (unet.addition_time_embed_dim or 0)
    wanted = {
        "in_channels": (diffusion.vae.config.latent_channels, "the VAE's latent_channels"),
        "cross_attention_dim": (text.hidden_size, "the sum of both text encoders' hidden_size"),
        "projection_class_embeddings_input_dim": (
            added,
            f"the second text encoder's projection_dim and {SIZES} times addition_time_embed_dim",
        ),
        "class_embed_type": (None, "nothing but an image and a text"),
    }
    if problems := differing(unet, wanted):
        raise UserError(
            f"model.weights={weights!r}: {path} is not a Stable Diffusion XL: {'; '.join(problems)}; put unet/, vae/, "
            "text_encoder/ and text_encoder_2/ of one model there"
        )
