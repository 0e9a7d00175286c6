"""Sample images of a model before and after a personalization, for the same captions and noise."""

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
    num_inference_steps: int = STEPS,
    guidance_scale: float = GUIDANCE,
) -> list[np.ndarray]:
    """Return a generated image uint8 (H, W, 3) per prompt; its noise depends only on `key` and its position."""
    rngs = [generator(*key, place) for place in range(len(prompts))]
    return model.draw(prompts, rngs, num_inference_steps, guidance_scale)


def write_samples(
    path: Path,
    learned_from: Sequence[np.ndarray],
    captions: Sequence[str],
    rows: Sequence[tuple[str, Sequence[np.ndarray]]],
) -> None:
    """Write a contact sheet: training images, then a row of images for each heading, with a column per caption."""
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
        row[0].set_ylabel(textwrap.fill(heading, 22), fontsize=8)
    for axis, caption in zip(grid[1], captions, strict=True):
        axis.set_title(caption, fontsize=7, wrap=True)
    write_figure(figure, path)
