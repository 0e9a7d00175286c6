"""Builds a pocket model, computes its denoising errors, and writes it as a diffusers folder.

It predicts velocity like Stable Diffusion 2, not noise like 1.5, because a short pretraining with noise prediction makes
hardly any use of words. Only the scheduler's configuration contains this choice.
"""

import tempfile
from pathlib import Path

import torch
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tadp_ray.backbones.latent.autoencoder import Autoencoder
from tadp_ray.backbones.latent.denoising import build_schedule
from tadp_ray.backbones.latent.diffusion import LatentDiffusion
from tadp_ray.backbones.latent.image_generator import ImageGenerator
from tadp_ray.backbones.pixart.build import build_transformer
from tadp_ray.backbones.pixart.load import PixArt
from tadp_ray.backbones.pixart.text_encoder import TextEncoder, TextEncoderConfig
from tadp_ray.backbones.pixart.text_to_image import PixArtToImage
from tadp_ray.backbones.stable_diffusion.build import build_unet
from tadp_ray.backbones.stable_diffusion.load import Diffusion
from tadp_ray.backbones.stable_diffusion.text_to_image import TextToImage
from tadp_ray.conditioning.text_encoder import encode_prompts
from tadp_ray.paper.pocket.tokenizer import write_tokenizer

TEXT_WIDTH = 64


def build_text_encoder() -> tuple[CLIPTokenizer, CLIPTextModel]:
    """Return the tokenizer of the pocket world and an untrained text encoder."""
    with tempfile.TemporaryDirectory() as words:
        write_tokenizer(Path(words))
        tokenizer = CLIPTokenizer.from_pretrained(words, model_max_length=77)
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=77,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    return tokenizer, text_encoder


def build_denoiser(vae: Autoencoder, size: int, channels: tuple[int, ...]) -> TextToImage:
    """Return an untrained U-Net, text encoder, tokenizer and noise schedule of Stable Diffusion's architecture with a VAE.

    Args:
        vae: trained VAE with a stride of 4.
        size: height and width of an image in pixels.
        channels: widths of the U-Net's levels.
    """
    tokenizer, text_encoder = build_text_encoder()
    unet = build_unet(size // 4, channels, TEXT_WIDTH, heads=2, groups=8)
    return TextToImage(Diffusion(vae, unet, text_encoder, tokenizer), build_schedule("v_prediction"))


def build_dit(vae: Autoencoder, size: int, width: int, depth: int, heads: int) -> PixArtToImage:
    """Return an untrained transformer, text encoder, tokenizer and noise schedule of PixArt's architecture with a VAE.

    The text encoder is the U-Net's, CLIP's in the place of PixArt's T5; as of PixArt, its padding is not read.

    Args:
        vae: trained VAE with a stride of 4.
        size: height and width of an image in pixels.
        width: channels of the transformer.
        depth: blocks.
        heads: of every attention layer.
    """
    tokenizer, network = build_text_encoder()
    config = TextEncoderConfig(network.config, network.config.max_position_embeddings, tokenizer.eos_token_id)
    transformer = build_transformer(size // 4, width, depth, heads, TEXT_WIDTH)
    diffusion = PixArt(vae, transformer, TextEncoder(config, network), tokenizer)
    return PixArtToImage(diffusion, build_schedule("v_prediction"))


@torch.no_grad()
def copy_weights(source: LatentDiffusion, target: LatentDiffusion) -> None:
    """Copy the denoiser, if it is of the same kind, and the text encoder into another model, which may have other tokens.

    New tokens keep their embeddings.
    """
    if type(source) is type(target):
        target.denoiser.load_state_dict(source.denoiser.state_dict())
    old, new = (model.text_network.get_input_embeddings().weight for model in (source, target))
    known, tokens = source.tokenizer.get_vocab(), target.tokenizer.get_vocab()
    shared = [token for token in tokens if token in known]
    new[[tokens[token] for token in shared]] = old[[known[token] for token in shared]]
    own = dict(target.text_network.named_parameters())
    for name, weight in source.text_network.named_parameters():
        if weight is not old:
            own[name].copy_(weight)


def caption_errors(model: ImageGenerator, latents: Tensor, noise: Tensor, times: Tensor, texts: list[str]) -> Tensor:
    """Return the mean squared denoising error (B,) of each image with its text, with gradients.

    Args:
        model: model that denoises.
        latents: scaled latents (B, 4, h, w).
        noise: (B, 4, h, w).
        times: timesteps (B,).
        texts: one text per image.
    """
    context = encode_prompts(model.diffusion.tokenizer, model.diffusion.text_encoder, texts)
    return model.errors(latents, noise, times, context)


def save_pocket(folder: Path, model: ImageGenerator) -> None:
    """Write a diffusers folder, with denoiser and VAE in half precision."""
    with tempfile.TemporaryDirectory() as words:
        write_tokenizer(Path(words))
        model.half().save(folder, tokenizer=Path(words))
