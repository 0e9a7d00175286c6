"""Builds the pocket Stable Diffusion, computes its denoising errors, and writes it as a diffusers folder.

It predicts velocity like Stable Diffusion 2, not noise like 1.5, because a short pretraining with noise prediction makes
hardly any use of words. Only the scheduler's configuration contains this choice.
"""

import tempfile
from pathlib import Path

import torch
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tadp_ray.backbones.stable_diffusion.autoencoder import Autoencoder
from tadp_ray.backbones.stable_diffusion.build import build_unet
from tadp_ray.backbones.stable_diffusion.denoising import build_schedule
from tadp_ray.backbones.stable_diffusion.load import Diffusion
from tadp_ray.backbones.stable_diffusion.text_to_image import TextToImage
from tadp_ray.conditioning.text_encoder import encode_prompts
from tadp_ray.paper.pocket.tokenizer import write_tokenizer

TEXT_WIDTH = 64


def build_denoiser(vae: Autoencoder, size: int, channels: tuple[int, ...]) -> TextToImage:
    """Return an untrained U-Net, text encoder, tokenizer and noise schedule of Stable Diffusion's architecture with a VAE.

    Args:
        vae: trained VAE with a stride of 4.
        size: height and width of an image in pixels.
        channels: widths of the U-Net's levels.
    """
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
    unet = build_unet(size // 4, channels, TEXT_WIDTH, heads=2, groups=8)
    return TextToImage(Diffusion(vae, unet, text_encoder, tokenizer), build_schedule("v_prediction"))


@torch.no_grad()
def copy_weights(source: Diffusion, target: Diffusion) -> None:
    """Copy U-Net and text encoder into another model, which may have other tokens; new tokens keep their embeddings."""
    target.unet.load_state_dict(source.unet.state_dict())
    old, new = (model.text_encoder.get_input_embeddings().weight for model in (source, target))
    known, tokens = source.tokenizer.get_vocab(), target.tokenizer.get_vocab()
    shared = [token for token in tokens if token in known]
    new[[tokens[token] for token in shared]] = old[[known[token] for token in shared]]
    own = dict(target.text_encoder.named_parameters())
    for name, weight in source.text_encoder.named_parameters():
        if weight is not old:
            own[name].copy_(weight)


def caption_errors(model: TextToImage, latents: Tensor, noise: Tensor, times: Tensor, texts: list[str]) -> Tensor:
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


def save_pocket(folder: Path, model: TextToImage) -> None:
    """Write a diffusers folder, with U-Net and VAE in half precision."""
    with tempfile.TemporaryDirectory() as words:
        write_tokenizer(Path(words))
        model.half().save(folder, tokenizer=Path(words))
