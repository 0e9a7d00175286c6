"""What a trained cell sees: a few validation images with truth, prediction and the prompt they were given."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from tadp_ray.captions.prompts import as_text
from tadp_ray.captions.sources import Prompt
from tadp_ray.data.sample import Sample
from tadp_ray.pictures.choose import SURE
from tadp_ray.pictures.files import write_figure
from tadp_ray.pictures.marks import name_colours, show_boxes, show_depth, show_image, show_labels, show_scale, span_of
from tadp_ray.training.evaluate import predictions, truth
from tadp_ray.training.setup import TrainSetup


def draw_predictions(
    path: Path, model: nn.Module, setup: TrainSetup, latents: Mapping[str, Tensor], device: torch.device, count: int = 6
) -> None:
    """Write a picture of `count` validation images, evenly spread over the split: image, truth, prediction, prompt."""
    model.eval()
    indices = sorted({round(i) for i in np.linspace(0, len(setup.val) - 1, count)})
    figure = Figure(figsize=(8, 2.1 * len(indices)), layout="constrained")
    grid = figure.subplots(len(indices), 3, squeeze=False)
    draw = {"mask": draw_labels, "depth": draw_depth, "boxes": draw_boxes}[setup.task.truth]
    named: set[int] = set()
    for row, (index, found) in zip(grid, predictions(model, setup, latents, indices, device), strict=True):
        sample = setup.val[index]
        show_image(row[0], sample.image)
        named |= draw(row[1:], sample, truth(setup, index)[0], found[0], setup.val.classes)
        prompt = as_text(setup.val_prompts[sample.id]) or "(empty prompt)"
        row[0].set_title("\n".join(textwrap.wrap(prompt, 34)[:3]), fontsize=8, loc="left")
    grid[0][1].set_title("truth", fontsize=9)
    grid[0][2].set_title("prediction", fontsize=9)
    name_colours(figure, named, setup.val.classes)
    write_figure(figure, path)


def draw_prediction(image: np.ndarray, prompt: Prompt, found: Tensor | dict, classes: Sequence[str]) -> Figure:
    """An image (H, W, 3) with its prompt, beside what a model predicts for it: labels or metres (H, W), or boxes."""
    height = 3.2 * image.shape[0] / image.shape[1]
    figure = Figure(figsize=(7, min(max(height, 1.2), 8) + 1.2), layout="constrained", dpi=150)
    left, right = figure.subplots(1, 2)
    show_image(left, image)
    left.set_title("\n".join(textwrap.wrap(as_text(prompt), 44)[:3]) or "(empty prompt)", fontsize=8, loc="left")
    right.set_title("prediction", fontsize=9)
    shown: set[int] = set()
    if isinstance(found, dict):
        boxes = sure_boxes(found, classes)
        show_boxes(right, image, boxes, classes)
        shown = {label for _, label, _ in boxes}
    elif found.is_floating_point():
        metres = found.cpu().numpy()
        show_depth(right, metres, span_of(metres))
        show_scale(figure, [left, right], span_of(metres))
    else:
        shown = show_labels(right, found.cpu().numpy(), classes)
    name_colours(figure, shown, classes)
    return figure


def draw_labels(axes: Sequence[Axes], _: Sample, wanted: Tensor, found: Tensor, classes: Sequence[str]) -> set[int]:
    """Label maps (H, W) side by side; returns the classes that are shown."""
    return set().union(
        *(show_labels(axis, own.cpu().numpy(), classes) for axis, own in zip(axes, (wanted, found), strict=True))
    )


def draw_depth(axes: Sequence[Axes], _: Sample, wanted: Tensor, found: Tensor, __: Sequence[str]) -> set[int]:
    """Depth maps (H, W) in one colour range."""
    span = span_of(wanted.numpy())
    for axis, metres in zip(axes, (wanted, found), strict=True):
        show_depth(axis, metres.cpu().numpy(), span)
    show_scale(axes[0].figure, axes, span)
    return set()


def draw_boxes(axes: Sequence[Axes], sample: Sample, wanted: dict, found: dict, classes: Sequence[str]) -> set[int]:
    """Boxes over the grey image, true ones and those found with a score of at least one half; returns their classes."""
    true = [(box, label, classes[label]) for box, label in zip(*listed(wanted["boxes"], wanted["labels"]), strict=True)]
    own = sure_boxes(found, classes)
    for axis, boxes in zip(axes, (true, own), strict=True):
        show_boxes(axis, sample.image, boxes, classes)
    return {label for _, label, _ in (*true, *own)}


def sure_boxes(found: dict, classes: Sequence[str]) -> list[tuple[list[float], int, str]]:
    """Boxes that are found with a score of at least one half: edges, class index, words."""
    sure = found["scores"] >= SURE
    kept = listed(*(found[key][sure] for key in ("boxes", "labels", "scores")))
    return [(box, label, f"{classes[label]} {score:.2f}") for box, label, score in zip(*kept, strict=True)]


def listed(*tensors: Tensor) -> list[list]:
    """Tensors as lists."""
    return [tensor.tolist() for tensor in tensors]
