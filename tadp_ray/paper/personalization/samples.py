"""Pictures that a model draws of the same captions and the same noise, as it was and with what it has learned."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from tadp_ray.backbones.stable_diffusion.text_to_image import TextToImage
from tadp_ray.pictures.files import write_figure
from tadp_ray.training.rng import generator

STEPS, GUIDANCE = 25, 3.0


def draw(
    model: TextToImage,
    prompts: Sequence[str],
    key: tuple[int, ...],
    steps: int = STEPS,
    guidance: float = GUIDANCE,
) -> list[np.ndarray]:
    """A picture uint8 (H, W, 3) of each prompt; its noise is a function of `key` and its place."""
    return model.draw(prompts, [generator(*key, place) for place in range(len(prompts))], steps, guidance)


def write_samples(
    path: Path,
    learned_from: Sequence[np.ndarray],
    captions: Sequence[str],
    rows: Sequence[tuple[str, Sequence[np.ndarray]]],
) -> None:
    """Write a contact sheet: images that were shown, then a row of pictures for each heading, by caption."""
    columns = len(captions)
    shown = [("shown", [learned_from[place % len(learned_from)] for place in range(columns)]), *rows]
    figure = Figure(figsize=(1.7 * columns + 0.6, 1.85 * len(shown)), layout="constrained", dpi=110)
    grid = figure.subplots(len(shown), columns, squeeze=False)
    for row, (heading, pictures) in zip(grid, shown, strict=True):
        for axis, picture in zip(row, pictures, strict=True):
            axis.imshow(picture, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
        row[0].set_ylabel(textwrap.fill(heading, 22).replace("$", r"\$"), fontsize=8)
    for axis, caption in zip(grid[1], captions, strict=True):
        axis.set_title(caption.replace("$", r"\$"), fontsize=7, wrap=True)
    write_figure(figure, path)
