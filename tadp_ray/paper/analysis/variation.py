"""Figure S1: the objects that img2img adds to an image when prompted with all class names, or with a caption."""

import textwrap
from collections.abc import Callable, Collection, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from tadp_ray.backbones.latent.autoencoder import decode, latent_scale
from tadp_ray.backbones.latent.weights import locate
from tadp_ray.backbones.stable_diffusion.load import Diffusion
from tadp_ray.backbones.stable_diffusion.text_to_image import TextToImage
from tadp_ray.conditioning.tokenizer import check_length
from tadp_ray.config.analysis import Variation
from tadp_ray.config.claims import Measured
from tadp_ray.config.recipe import Recipe
from tadp_ray.config.vocabulary import BACKGROUND
from tadp_ray.data.datasets import class_names
from tadp_ray.data.pixels import normalized
from tadp_ray.data.scenes import THINGS
from tadp_ray.errors import UserError
from tadp_ray.paper.analysis.attention import image_latents
from tadp_ray.paper.analysis.finding import Outcome, Trained, standard_error
from tadp_ray.paper.analysis.sheets import tallest
from tadp_ray.paper.analysis.trained import load_segmenter
from tadp_ray.paper.analysis.varied import pictures_to_vary
from tadp_ray.paper.pocket.autoencoder import as_pixels
from tadp_ray.paper.pocket.gate import load_classifier
from tadp_ray.pictures.files import write_both
from tadp_ray.training.rng import generator

PROMPTS = ("all class names", "a caption")
COLOURS = {"all class names": ("#b35806", "-"), "a caption": ("#2166ac", "--")}
"""Colour and line style of each prompt's curve, distinguishable in grey too."""
Judge = Callable[[np.ndarray], np.ndarray]
"""Images uint8 (B, H, W, 3) -> mean probability of each class over the pixels, (B, classes)."""


def variation(
    config: Variation, recipe: Recipe, seed: int, diffusion: Diffusion, judges: Sequence[Trained], folder: Path
) -> Outcome:
    """Generate variations of images and measure the probability of classes that are not in the originals.

    Scenes are classified by the classifier of the pocket model, photographs by a model that the recipe trains without text.

    Raises:
        UserError: the classifier or the scheduler is missing, or a prompt is too long.
    """
    pictures = pictures_to_vary(config, recipe, seed, diffusion)
    prompts = {PROMPTS[0]: [" ".join(class_names(recipe.data))] * len(pictures)}
    prompts[PROMPTS[1]] = [picture.caption for picture in pictures]
    for prompt in {*prompts[PROMPTS[0]], *prompts[PROMPTS[1]]}:
        check_length(diffusion.tokenizer, prompt)
    judge, known = judge_of(recipe, diffusion, judges)
    absent = np.array([absent_names(known, picture.shows) for picture in pictures])
    originals = [picture.image for picture in pictures]
    drawn = {
        (name, steps): vary(config, diffusion, originals, prompts[name], steps)
        for name in PROMPTS
        for steps in config.steps
    }
    off = {key: 100 * (class_shares(judge, images) * absent).sum(1) for key, images in drawn.items()}
    reconstruction = 100 * (class_shares(judge, reconstructed(diffusion, originals)) * absent).sum(1)
    numbers = {
        f"{name}, {steps} steps: percent off target": float(values.mean()) for (name, steps), values in off.items()
    }
    numbers |= {"reconstruction: percent off target": float(reconstruction.mean()), "images": len(pictures)}
    files = write_both(draw_panels(config, originals[:4], drawn), folder / "panels.png")
    files += write_both(draw_curves(config, off, reconstruction), folder / "off_target.png")
    return Outcome(numbers, measures(config, off), files)


def absent_names(known: Sequence[str], shown: Collection[str]) -> list[bool]:
    """Return for each known class whether a picture that shows some lacks it; background is in every picture."""
    return [name not in (*shown, BACKGROUND) for name in known]


def judge_of(recipe: Recipe, diffusion: Diffusion, judges: Sequence[Trained]) -> tuple[Judge, tuple[str, ...]]:
    """Return the classifier of the images, and its classes.

    Raises:
        UserError: the trained model that classifies photographs is also told of an image's embedding.
    """
    if recipe.data.kind == "scenes":
        classifier = load_classifier(locate(recipe.model.weights)).to(diffusion.vae.device)

        @torch.no_grad()
        def classify(pictures: np.ndarray) -> np.ndarray:
            logits = classifier(as_pixels(torch.from_numpy(pictures)).to(diffusion.vae.device))
            return logits.softmax(1).mean(dim=(2, 3))[:, : len(THINGS)].cpu().numpy()

        return classify, THINGS
    segmenter = load_segmenter(judges[0], diffusion.vae.device)
    told = segmenter.setup.recipe.model.context
    if told.readers_of_images:
        raise UserError(
            f"model.context={'+'.join(told.kinds)}: the classifier of these images is given an empty text alone; use a recipe "
            "with model.context: text"
        )
    context = segmenter.setup.contexts([""])

    @torch.no_grad()
    def segment(pictures: np.ndarray) -> np.ndarray:
        channels_first = torch.from_numpy(pictures).permute(0, 3, 1, 2)
        pixels = normalized(channels_first, segmenter.setup.recipe.model.pixel_normalization).to(segmenter.device)
        shape = (len(pictures), *segmenter.model.backbone.latent_shape(pixels))
        rng, samples, added = generator(0, 4), segmenter.model.backbone.noise_samples, None
        noise = torch.randn(shape, generator=rng).to(segmenter.device)
        if samples:
            added = torch.randn((shape[0], samples, *shape[1:]), generator=rng).to(segmenter.device)
        latents = segmenter.model.backbone.encode_image(pixels).sample(noise)
        contexts = context.to(segmenter.device).expand(len(pictures), -1, -1)
        logits = segmenter.model(latents, contexts, noise=added)
        return logits.softmax(1).mean(dim=(2, 3)).cpu().numpy()

    return segment, segmenter.setup.val.classes


def class_shares(judge: Judge, images: Sequence[np.ndarray]) -> np.ndarray:
    """Return the class shares (N, classes) of images, which may differ in size."""
    return np.concatenate([judge(image[None]) for image in images])


def vary(
    config: Variation, diffusion: Diffusion, images: Sequence[np.ndarray], prompts: Sequence[str], steps: int
) -> list[np.ndarray]:
    """Generate variations of images; the noise of an image does not depend on its prompt."""
    model = TextToImage(diffusion, diffusion.schedule)
    rngs = [generator(5, index) for index in range(len(images))]
    return model.vary(images, prompts, rngs, steps, config.num_inference_steps, config.guidance_scale)


def reconstructed(diffusion: Diffusion, images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the VAE reconstructions of images, without denoising."""

    @torch.no_grad()
    def rebuild(image: np.ndarray) -> Tensor:
        latent = image_latents(diffusion, [image]) / latent_scale(diffusion.vae)
        return decode(diffusion.vae, latent)[0].add(1).mul(127.5).round().clamp(0, 255)

    return [rebuild(image).byte().permute(1, 2, 0).cpu().numpy() for image in images]


def measures(config: Variation, off: dict[tuple[str, int], np.ndarray]) -> dict[str, Measured]:
    """Return the measures for claims: the paper's observations as numbers; differences are taken per image."""
    first, last = config.steps[0], config.steps[-1]
    names, caption = PROMPTS
    gain = off[names, last] - off[names, first]
    rises = [float(off[names, more].mean() - off[names, few].mean()) for few, more in pairwise(config.steps)]
    share = float(off[caption, last].mean() / max(off[names, last].mean(), 1e-9))
    return {
        "gain": Measured(float(gain.mean()), len(gain), "images", standard_error(gain)),
        "least rise": Measured(min(rises), len(gain), "images"),
        "captioned share": Measured(share, len(gain), "images"),
    }


def draw_panels(
    config: Variation, originals: Sequence[np.ndarray], drawn: dict[tuple[str, int], list[np.ndarray]]
) -> Figure:
    """Draw originals and their variations over steps, with a row per prompt."""
    rows, across = len(PROMPTS) * len(originals), 1 + len(config.steps)
    height = 0.4 + (1.35 * tallest(originals) + 0.05) * rows
    figure = Figure(figsize=(1.35 * across + 0.4, height), layout="constrained", dpi=150)
    grid = figure.subplots(rows, across, squeeze=False)
    for index, original in enumerate(originals):
        for place, name in enumerate(PROMPTS):
            row = grid[len(PROMPTS) * index + place]
            row[0].imshow(original, interpolation="nearest")
            row[0].set_ylabel(textwrap.fill(config.caption or name, 18) if place else name, fontsize=7)
            for axes, steps in zip(row[1:], config.steps, strict=True):
                axes.imshow(drawn[name, steps][index], interpolation="nearest")
            for axes in row:
                axes.set_xticks([])
                axes.set_yticks([])
                axes.spines[:].set_visible(False)
    for axes, title in zip(grid[0], ("original", *(f"{steps} steps" for steps in config.steps)), strict=True):
        axes.set_title(title, fontsize=9)
    return figure


def draw_curves(config: Variation, off: dict[tuple[str, int], np.ndarray], reconstruction: np.ndarray) -> Figure:
    """Draw the off-target probability over steps, with error bars of twice the standard error over images."""
    figure = Figure(figsize=(4.6, 3.2), layout="constrained", dpi=150)
    axes = figure.subplots()
    for name, (colour, line) in COLOURS.items():
        values = [off[name, steps] for steps in config.steps]
        means, bars = [v.mean() for v in values], [2 * standard_error(v) for v in values]
        axes.errorbar(
            config.steps, means, bars, color=colour, linestyle=line, marker="o", capsize=3, label=f"told {name}"
        )
    axes.axhline(reconstruction.mean(), color="0.5", linestyle=":", label="the original through the VAE")
    axes.set_xlabel(f"denoising steps of {config.num_inference_steps}")
    axes.set_ylabel("probability of absent things (%)")
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    return figure
