"""Evaluates the style of a personalized model's images with a classifier of the pocket world's styles."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tadp_ray.backbones.latent.autoencoder import Autoencoder, decode
from tadp_ray.captions.describe import class_list
from tadp_ray.config.vocabulary import CAPTION
from tadp_ray.data.scenes import GROUNDS, THINGS, render
from tadp_ray.data.styles import STYLES
from tadp_ray.errors import UserError
from tadp_ray.paper.personalization.run import load_personalized
from tadp_ray.paper.personalization.samples import draw, write_samples
from tadp_ray.paper.pocket.autoencoder import as_pixels, encode
from tadp_ray.paper.pocket.gate import SEED
from tadp_ray.paper.pocket.latent_cache import world_of
from tadp_ray.training.rng import generator

SCENES, HELD_OUT = 400, 48
"""Scenes per style for training and for testing the classifier."""
STEPS, BATCH = 600, 32
DRAWINGS, SHOWN = 48, 8


def reconstructed(vae: Autoencoder, size: int, first: int, count: int) -> tuple[Tensor, Tensor]:
    """Return VAE reconstructions (N, 3, H, W) of scenes in every style, and their styles (N,).

    Reconstructions are used since generated images come from the VAE too. Close-ups are among the scenes, as in pretraining:
    images of a single thing resemble them.
    """
    images = np.stack(
        [
            render("val", SEED, index, size, style, world_of(index)).image
            for style in STYLES
            for index in range(first, first + count)
        ]
    )
    with torch.no_grad():
        parts = torch.from_numpy(images).split(BATCH)
        decoded = torch.cat([decode(vae, encode(vae, part, vae.device)[0]).clamp(-1, 1) for part in parts])
    return decoded, torch.arange(len(STYLES)).repeat_interleave(count)


class Pool(nn.Module):
    """Mean and maximum over the places of an image (B, C, H, W): what is everywhere, and what is anywhere."""

    def forward(self, features: Tensor) -> Tensor:
        """Return both, (B, 2 C)."""
        return torch.cat([features.mean((2, 3)), features.amax((2, 3))], dim=1)


def train_judge(vae: Autoencoder, size: int) -> tuple[nn.Module, float]:
    """Train a classifier from images (B, 3, H, W) in [-1, 1] to logits of `STYLES` (B, 6); return it and its test accuracy."""
    images, styles = reconstructed(vae, size, 0, SCENES)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        layers: list[nn.Module] = []
        for before, width in ((3, 16), (16, 32), (32, 64)):
            layers += [nn.Conv2d(before, width, 3, stride=2, padding=1), nn.GroupNorm(4, width), nn.SiLU()]
        judge = nn.Sequential(*layers, Pool(), nn.Linear(2 * 64, len(STYLES)))
    optimizer = torch.optim.AdamW(judge.parameters(), lr=3e-3)
    for step in range(STEPS):
        rng = generator(SEED, 40, step)
        chosen = torch.randint(len(images), (BATCH,), generator=rng)
        mirrored = torch.rand(BATCH, 1, 1, 1, generator=rng) < 0.5
        pixels = torch.where(mirrored, images[chosen].flip(3), images[chosen])
        loss = F.cross_entropy(judge(pixels), styles[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    unseen, truth = reconstructed(vae, size, SCENES, HELD_OUT)
    with torch.no_grad():
        return judge.eval(), (judge(unseen).argmax(1) == truth).float().mean().item()


def captions_to_draw(count: int) -> list[str]:
    """Return captions of an object on a ground under the sky, with every object equally often."""
    return [
        class_list([THINGS[index % len(THINGS)], list(GROUNDS)[index % len(GROUNDS)], "sky"]) for index in range(count)
    ]


def measure_style(folder: Path, picture: Path) -> dict[str, float]:
    """Compare images of a personalized model with images of the original model for the same noise, by a style classifier.

    Writes some of both images to `picture`.

    Returns: in percent: `preferred`, how often the personalized model's image has the higher probability of the target
    style; `probability` and `probability_before` of that style; `named`, how often it is the predicted style; `judge`, the
    test accuracy of the classifier.

    Raises:
        UserError: the folder has no personalization with a style of the pocket world.
    """
    job, before, after = load_personalized(folder)
    plan = job.plan
    if plan.images.kind != "scenes":
        raise UserError(
            f"{folder}: was learned from {plan.images.files}, but the judge knows the looks of the pocket world alone"
        )
    judge, accuracy = train_judge(before.diffusion.vae, plan.images.size)
    captions = captions_to_draw(DRAWINGS)
    prompts = [plan.modifier.replace(CAPTION, caption) for caption in captions]
    drawn = [draw(before, captions, (job.seed, 50)), draw(after, prompts, (job.seed, 50))]
    place = list(STYLES).index(plan.images.style)
    with torch.no_grad():
        scores = [judge(as_pixels(torch.from_numpy(np.stack(images)))).softmax(1) for images in drawn]
    probability_before, probability = (score[:, place] for score in scores)
    examples = [
        render("train", plan.images.seed, index, plan.images.size, plan.images.style).image for index in range(SHOWN)
    ]
    rows = [("as it was", drawn[0][:SHOWN]), (plan.modifier, drawn[1][:SHOWN])]
    write_samples(picture, examples, captions[:SHOWN], rows)
    metrics = {
        "preferred": (probability > probability_before).float().mean().item(),
        "named": (scores[1].argmax(1) == place).float().mean().item(),
        "probability": probability.mean().item(),
        "probability_before": probability_before.mean().item(),
        "judge": accuracy,
    }
    return {name: 100 * value for name, value in metrics.items()}
