"""Figures of a trained cell: validation images with ground truth, prediction and prompt."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from tadp_ray.captions.prompts import as_text
from tadp_ray.captions.sources import Prompt
from tadp_ray.pictures.choose import evenly
from tadp_ray.pictures.comparison import Draw
from tadp_ray.pictures.files import write_figure
from tadp_ray.pictures.overlays import name_colours, show_image
from tadp_ray.training.evaluate import predictions, scored_image, truth
from tadp_ray.training.model import TADP
from tadp_ray.training.setup import TrainSetup


def draw_predictions(
    path: Path, model: TADP, setup: TrainSetup, latents: Mapping[str, Tensor], device: torch.device, count: int = 6
) -> None:
    """Write a figure of `count` validation images, evenly spaced over the split: image, ground truth, prediction, prompt."""
    model.eval()
    indices = evenly(len(setup.val), count)
    figure = Figure(figsize=(8, 2.1 * len(indices)), layout="constrained")
    grid = figure.subplots(len(indices), 3, squeeze=False)
    named: set[int] = set()
    for row, (index, found) in zip(grid, predictions(model, setup, latents, indices, device), strict=True):
        image = scored_image(setup, index)
        show_image(row[0], image)
        shown = truth(setup, index)[0], found[0]
        named |= setup.task.draw(row[1:], image, shown, setup.val.classes, row[1:])
        prompt = as_text(setup.val_prompts[setup.val.ids[index]]) or "(empty prompt)"
        row[0].set_title("\n".join(textwrap.wrap(prompt, 34)[:3]), fontsize=8, loc="left")
    grid[0][1].set_title("truth", fontsize=9)
    grid[0][2].set_title("prediction", fontsize=9)
    name_colours(figure, named, setup.val.classes)
    write_figure(figure, path)


def draw_prediction(image: np.ndarray, prompt: Prompt, found: Any, classes: Sequence[str], draw: Draw) -> Figure:
    """Return a figure of an image (H, W, 3) with its prompt, and the prediction beside it, drawn by `draw` of its task."""
    height = 3.2 * image.shape[0] / image.shape[1]
    figure = Figure(figsize=(7, min(max(height, 1.2), 8) + 1.2), layout="constrained", dpi=150)
    left, right = figure.subplots(1, 2)
    show_image(left, image)
    left.set_title("\n".join(textwrap.wrap(as_text(prompt), 44)[:3]) or "(empty prompt)", fontsize=8, loc="left")
    right.set_title("prediction", fontsize=9)
    name_colours(figure, draw([right], image, [found], classes, [left, right]), classes)
    return figure
