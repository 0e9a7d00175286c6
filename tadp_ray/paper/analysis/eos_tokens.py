"""Figure S3: are maps of EOS tokens diffuse because of the average over sentences, or because they are EOS tokens?"""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from tadp_ray.backbones.latent.diffusion import LatentDiffusion
from tadp_ray.captions.sources import Prompt, foreground
from tadp_ray.conditioning.text_encoder import make_text_encoder
from tadp_ray.conditioning.tokenizer import check_length, name_places
from tadp_ray.config.analysis import EOSTokens
from tadp_ray.config.claims import Measured
from tadp_ray.config.data import CaptionConfig
from tadp_ray.config.recipe import Recipe
from tadp_ray.errors import UserError
from tadp_ray.paper.analysis.attention import image_latents, word_maps
from tadp_ray.paper.analysis.finding import Outcome, Trained, standard_error
from tadp_ray.paper.analysis.images import ShownObject, analysis_images, resized
from tadp_ray.paper.analysis.sheets import highest, overlay, show_scale, tallest
from tadp_ray.paper.localisation import diffuseness, localisation
from tadp_ray.pictures.files import write_both

NAMING_ENCODINGS = ("text", "names", "class_embeddings")
"""Of which the vectors of a name are known."""
SHOWN, PAIR = 4, 2
"""Images in the figure, and maps per image."""


def eos_tokens(
    config: EOSTokens,
    recipe: Recipe,
    seed: int,
    diffusion: LatentDiffusion,
    found: Mapping[str, Sequence[Trained]],
    folder: Path,
) -> Outcome:
    """Measure the attention maps of each text's class tokens, and collect the mIoU of models trained with the text.

    Args:
        config: settings of the analysis.
        recipe: data and weights.
        seed: seed of the scenes.
        diffusion: the pretrained model.
        found: by text, the models that the recipe trains with it; models that are not trained yet are listed in the notes.
        folder: output folder of the figure.
    """
    dataset = analysis_images(recipe, seed, config.images)
    pictures = [resized(dataset, index, diffusion) for index in range(min(len(dataset), config.images))]
    rows: dict[str, list[dict[str, float]]] = {}
    maps: dict[str, list[dict[str, np.ndarray]]] = {}
    for text, models in found.items():
        caption = models[0].cell.recipe.caption
        contexts: dict[Prompt, Tensor] = {}
        for index, (image, things) in enumerate(pictures):
            names = dataset.classes if caption.source == "class_names" else dataset.present(index)
            names = names if caption.include_background else foreground(names)
            by_name = class_maps(diffusion, caption, dataset.classes, names, image, things, config.timestep, contexts)
            maps.setdefault(text, []).append(by_name)
            regions = {
                thing.name: np.any([t.region for t in things if t.name == thing.name], axis=0) for thing in things
            }
            metrics = [{"diffuseness": diffuseness(m), **localisation(m, regions[n])} for n, m in by_name.items()]
            rows.setdefault(text, []).append(
                {k: statistics.fmean(each[k] for each in metrics) for k in metrics[0]} if metrics else {}
            )
    numbers = {f"{text}: {name}": mean(own, name) for text, own in rows.items() for name in next(r for r in own if r)}
    notes = []
    scores: dict[str, dict[int, float]] = {}
    for text, models in found.items():
        own = scores[text] = {one.cell.seed: one.metrics["miou"] for one in models if one.metrics}
        if own:
            numbers |= {f"{text}: miou": statistics.fmean(own.values()), f"{text}: seeds": len(own)}
        if len(own) > 1:
            numbers[f"{text}: miou_sd"] = statistics.stdev(own.values())
        notes += [f"mIoU of {text} is missing a seed: {one.command}" for one in models if not one.metrics]
    full = [place for place, own in enumerate(maps[next(iter(maps))]) if len(own) >= PAIR][:SHOWN]
    rows_shown = {text: [own[place] for place in full] for text, own in maps.items()}
    files = write_both(draw([pictures[place][0] for place in full], rows_shown), folder / "eos_tokens.png")
    return Outcome(numbers, measures(rows, scores), files, notes)


def check_texts(captions: Mapping[str, CaptionConfig]) -> None:
    """Check that each text is the right names alone, since maps are of these names and scores of models trained with the text.

    Raises:
        UserError: one is something else; the message names it.
    """
    for text, caption in captions.items():
        exact = caption.source == "class_names" or caption.is_exact_oracle
        if not exact or caption.modifiers or caption.shuffle:
            raise UserError(
                f"spec.texts.{text}: its maps are of the names in an image, or of all; use caption.source: class_names, or "
                "oracle with precision and recall 1, without modifiers and shuffle"
            )
        if caption.encoding not in NAMING_ENCODINGS:
            raise UserError(
                f"spec.texts.{text}: encoding: {caption.encoding} does not tell which vectors are a name's; use "
                f"{', '.join(NAMING_ENCODINGS)}"
            )


def mean(rows: Sequence[Mapping[str, float]], name: str) -> float:
    """Return the mean of a metric over images."""
    return statistics.fmean(row[name] for row in rows if row)


@torch.no_grad()
def class_maps(
    diffusion: LatentDiffusion,
    caption: CaptionConfig,
    classes: Sequence[str],
    names: Sequence[str],
    image: np.ndarray,
    things: Sequence[ShownObject],
    timestep: int,
    contexts: dict[Prompt, Tensor],
) -> dict[str, np.ndarray]:
    """Return the map (H, W) of every object in an image whose name is in the text: mean over its tokens, heads and layers.

    The largest objects come first.

    `contexts` is a cache by prompt, since encoding one vector per class takes 80 sentences.
    """
    tokenizer = diffusion.tokenizer
    prompt: Prompt = " ".join(names) if caption.encoding == "text" else tuple(names)
    if isinstance(prompt, str):
        check_length(tokenizer, prompt)
    by_vector = caption.encoding == "class_embeddings"
    all_places = [[place] for place in range(len(names))] if by_vector else name_places(tokenizer, names)
    by_name = dict(zip(names, all_places, strict=True))
    # In the order of the objects, since the figure shows the largest.
    places = {thing.name: by_name[thing.name] for thing in things if thing.name in by_name}
    if not places:
        return {}
    if prompt not in contexts:
        (contexts[prompt],) = make_text_encoder(tokenizer, diffusion.text_encoder, caption, classes)([prompt])
    layers = diffusion.attention_layers(image_latents(diffusion, [image]), contexts[prompt][None], timestep)
    return {name: maps[0] for name, maps in word_maps(layers, places, image.shape[:2]).items()}


def measures(
    rows: Mapping[str, Sequence[Mapping[str, float]]], scores: Mapping[str, Mapping[int, float]]
) -> dict[str, Measured]:
    """Return the measures for claims: differences between maps, taken per image, and between trained models, per seed.

    Args:
        rows: by text, what was measured in each image.
        scores: by text, mIoU in % by seed.
    """
    wide = {text: np.array([row["diffuseness"] for row in own if row]) for text, own in rows.items()}
    gap, added = wide["single"] - wide["words"], wide["averaged"] - wide["single"]
    found = {
        "gap": Measured(float(gap.mean()), len(gap), "images", standard_error(gap)),
        "averaging": Measured(float(added.mean()), len(added), "images"),
    }
    words, *others = (scores[text] for text in ("words", "averaged", "single"))
    if all(others):
        best = max(others, key=lambda own: statistics.fmean(own.values()))
        ahead = tuple(words[seed] - score for seed, score in best.items() if seed in words)
        if ahead:
            found["words ahead"] = Measured(statistics.fmean(ahead), len(ahead), "seeds", by_seed=ahead)
    return found


def draw(images: Sequence[np.ndarray], maps: Mapping[str, Sequence[Mapping[str, np.ndarray]]]) -> Figure:
    """Draw a row per text with the maps of each image's two largest objects."""
    across = max(1, (1 + PAIR) * len(images))
    height = 0.3 + (1.35 * tallest(images) + 0.25) * len(maps)
    figure = Figure(figsize=(1.35 * across, height), layout="constrained", dpi=150)
    grid = figure.subplots(len(maps), across, squeeze=False)
    top = highest(scores for own in maps.values() for names in own for scores in list(names.values())[:PAIR])
    for axes in grid.ravel():
        axes.set_axis_off()
    for row, (text, own) in zip(grid, maps.items(), strict=True):
        for place, image in enumerate(images):
            first, *others = row[(1 + PAIR) * place : (1 + PAIR) * (place + 1)]
            first.imshow(image, interpolation="nearest")
            first.set_title(text, fontsize=8)
            for axes, (name, scores) in zip(others, own[place].items(), strict=False):
                overlay(axes, image, scores, top, name)
    show_scale(figure, grid.ravel(), top)
    return figure
