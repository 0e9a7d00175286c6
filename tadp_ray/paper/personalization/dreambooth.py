"""DreamBooth: fine-tunes the U-Net on a few images with a rare word; text encoder and VAE are frozen."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tadp_ray.backbones.latent.weights import locate
from tadp_ray.backbones.stable_diffusion.text_to_image import TextToImage
from tadp_ray.conditioning.text_encoder import encode_prompts
from tadp_ray.config.personalization import DreamBooth, Prior
from tadp_ray.layout import PRIOR
from tadp_ray.paper.personalization.finetuner import Finetuner
from tadp_ray.paper.personalization.images import Latents, encode_pictures
from tadp_ray.paper.personalization.samples import draw
from tadp_ray.training import checkpoint

GUIDANCE = 7.5
"""Guidance scale of the prior images: the library's default, as in the published script."""


def tune(finetuner: Finetuner, model: TextToImage, method: DreamBooth) -> dict[str, float]:
    """Fine-tune the U-Net in place, write the model as a diffusers folder, and return the final metrics.

    Its `seconds` are those of earlier sessions.

    Args:
        finetuner: the personalization, with the U-Net to train.
        model: generates images with the same networks.
        method: of the personalization.
    """
    unet, prior = finetuner.diffusion.unet, method.prior
    drawn = prior_latents(finetuner, model, prior) if prior else None
    contexts: dict[str, Tensor] = {}

    def context_of(texts: Sequence[str]) -> Tensor:
        for text in {*texts} - contexts.keys():
            with torch.no_grad():
                (contexts[text],) = encode_prompts(
                    finetuner.diffusion.tokenizer, finetuner.diffusion.text_encoder, [text]
                )
        return torch.stack([contexts[text] for text in texts])

    def loss_at(number: int, count: int) -> Tensor:
        context = lambda indices: context_of(finetuner.draw_prompts([method.prompt], number, indices))
        loss = finetuner.loss(number, count, 0, finetuner.latents, context)
        if prior and drawn:
            prior_context = lambda indices: context_of([prior.prompt] * len(indices))
            loss = loss + prior.weight * finetuner.loss(number, count, 1, drawn, prior_context)
        return loss

    unet.requires_grad_(True).train()
    state = finetuner.learn(unet, loss_at)
    unet.requires_grad_(False).eval()
    write_folder(finetuner, model)
    return {"loss": state.loss, "seconds": state.earlier}


def prior_latents(finetuner: Finetuner, model: TextToImage, prior: Prior) -> Latents:
    """Return the latents of images from the original model, generated once."""

    def make() -> tuple[dict[str, Tensor], dict[str, Any]]:
        prompts, key = [prior.prompt] * prior.images, (finetuner.job.seed, 20)
        images = draw(model, prompts, key, prior.num_inference_steps, GUIDANCE)
        latents = encode_pictures(finetuner.diffusion.vae, np.stack(images))
        return {"mean": latents.mean, "std": latents.std}, {}

    tensors = checkpoint.cached(finetuner.job.folder / PRIOR, {"fingerprint": finetuner.job.fingerprint}, make)
    return Latents(tensors["mean"], tensors["std"])


def write_folder(finetuner: Finetuner, model: TextToImage) -> None:
    """Write the model to the job's folder as a diffusers folder."""
    folder = finetuner.job.folder
    model.save(folder, tokenizer=locate(finetuner.job.plan.weights) / "tokenizer")
    (folder / PRIOR).unlink(missing_ok=True)
