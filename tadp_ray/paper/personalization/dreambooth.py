"""DreamBooth: the U-Net is tuned until a rare word means a few images; text encoder and VAE stay as they are."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tadp_ray.backbones.stable_diffusion.text_to_image import TextToImage
from tadp_ray.backbones.stable_diffusion.weights import locate
from tadp_ray.conditioning.text_encoder import encode_prompts
from tadp_ray.config.personalization import Prior
from tadp_ray.layout import PRIOR
from tadp_ray.paper.personalization.finetuner import Finetuner
from tadp_ray.paper.personalization.images import Latents, encode_look
from tadp_ray.paper.personalization.samples import draw
from tadp_ray.training import checkpoint

GUIDANCE = 7.5
"""Of the pictures that the untouched model draws: the published script leaves the library's default."""


def tune(finetuner: Finetuner, model: TextToImage) -> dict[str, float]:
    """Tune the finetuner's U-Net, write the whole model as a diffusers folder, and return final metrics.

    Args:
        finetuner: what is learned; its U-Net is trained in place.
        model: draws with the finetuner's parts.
    """
    method, unet = finetuner.job.plan.method, finetuner.diffusion.unet
    prior = prior_latents(finetuner, model, method.prior) if method.prior else None
    contexts: dict[str, Tensor] = {}

    def context_of(texts: Sequence[str]) -> Tensor:
        for text in {*texts} - contexts.keys():
            with torch.no_grad():
                (contexts[text],) = encode_prompts(
                    finetuner.diffusion.tokenizer, finetuner.diffusion.text_encoder, [text]
                )
        return torch.stack([contexts[text] for text in texts])

    def loss_at(number: int, count: int) -> Tensor:
        told = lambda indices: context_of(finetuner.draw_prompts([method.prompt], number, indices))
        loss = finetuner.loss(number, count, 0, finetuner.latents, told)
        if prior:
            drawn = lambda indices: context_of([method.prior.prompt] * len(indices))
            loss = loss + method.prior.weight * finetuner.loss(number, count, 1, prior, drawn)
        return loss

    unet.requires_grad_(True).train()
    loss = finetuner.learn(unet, loss_at)
    unet.requires_grad_(False).eval()
    write_folder(finetuner, model)
    return {"loss": loss}


def prior_latents(finetuner: Finetuner, model: TextToImage, prior: Prior) -> Latents:
    """Latents of pictures that the model draws before it is trained, drawn once."""

    def make() -> tuple[dict[str, Tensor], dict[str, Any]]:
        prompts, key = [prior.prompt] * prior.images, (finetuner.job.seed, 20)
        made = encode_look(
            finetuner.diffusion.vae, np.stack(draw(model, prompts, key, steps=prior.steps, guidance=GUIDANCE))
        )
        return {"mean": made.mean, "std": made.std}, {}

    tensors = checkpoint.cached(finetuner.job.folder / PRIOR, {"fingerprint": finetuner.job.fingerprint}, make)
    return Latents(tensors["mean"], tensors["std"])


def write_folder(finetuner: Finetuner, model: TextToImage) -> None:
    """Write the model into the job's folder, as diffusers reads it."""
    folder = finetuner.job.folder
    model.save(folder, tokenizer=locate(finetuner.job.plan.weights) / "tokenizer")
    (folder / PRIOR).unlink(missing_ok=True)
