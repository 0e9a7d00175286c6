"""What a trained cell sees: a few validation images with truth, prediction and the prompt they were given."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from torch import Tensor, nn

from tadp_ray.captions.prompts import NAME_END
from tadp_ray.data.sample import IGNORE, Sample
from tadp_ray.training.evaluate import predictions, truth
from tadp_ray.training.study import Study

SURE = 0.5
"""Score from which on a found box is drawn."""


def palette(count: int) -> np.ndarray:
    """`count` distinct RGB colours (count, 3) in [0, 1]: hues by the golden ratio, three brightnesses."""
    hues = np.arange(count) * 0.618034 % 1.0
    return hsv_to_rgb(
        np.stack([hues, np.where(np.arange(count) % 2, 0.55, 0.85), 0.95 - 0.2 * (np.arange(count) % 3)], 1)
    )


def paint(mask: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """RGB (H, W, 3) in [0, 1] of a label map; ignored pixels are white."""
    return np.where((mask == IGNORE)[..., None], 1.0, colours[np.minimum(mask, len(colours) - 1)])


def draw_predictions(
    path: Path, model: nn.Module, study: Study, latents: Mapping[str, Tensor], device: torch.device, count: int = 6
) -> None:
    """Write a picture of `count` validation images, evenly spread over the split: image, truth, prediction, prompt."""
    model.eval()
    indices = sorted({round(i) for i in np.linspace(0, len(study.val) - 1, count)})
    figure = Figure(figsize=(8, 2.1 * len(indices)), layout="constrained")
    grid = figure.subplots(len(indices), 3, squeeze=False)
    draw = {"mask": draw_labels, "depth": draw_depth, "boxes": draw_boxes}[study.task.truth]
    named: set[int] = set()
    for row, (index, found) in zip(grid, predictions(model, study, latents, indices, device), strict=True):
        sample = study.val[index]
        row[0].imshow(sample.image, interpolation="nearest")
        named |= draw(row[1:], sample, truth(study, index)[0], found[0], study.val.classes)
        for axis in row:
            axis.set_axis_off()
        prompt = study.val_prompts[sample.id].replace(NAME_END, " ") or "(empty prompt)"
        row[0].set_title("\n".join(textwrap.wrap(prompt, 34)[:3]), fontsize=8, loc="left")
    grid[0][1].set_title("truth", fontsize=9)
    grid[0][2].set_title("prediction", fontsize=9)
    colours = palette(len(study.val.classes))
    names = [Patch(color=colours[c], label=study.val.classes[c]) for c in sorted(named)]
    if names:
        figure.legend(handles=names, loc="outside right upper", fontsize=8, frameon=False)
    draft = path.with_suffix(".part")
    FigureCanvasAgg(figure).print_png(draft)
    draft.replace(path)


def draw_labels(axes: Sequence[Axes], _: Sample, wanted: Tensor, found: Tensor, classes: Sequence[str]) -> set[int]:
    """Label maps (H, W) side by side; returns the classes that are shown."""
    for axis, labels in zip(axes, (wanted.numpy(), found.cpu().numpy()), strict=True):
        axis.imshow(paint(labels, palette(len(classes))), interpolation="nearest")
    return (set(wanted.unique().tolist()) | set(found.unique().tolist())) - {IGNORE}


def draw_depth(axes: Sequence[Axes], _: Sample, wanted: Tensor, found: Tensor, __: Sequence[str]) -> set[int]:
    """Depth maps (H, W) in one colour range, near bright, places without a reading white."""
    known = wanted.numpy()[wanted.numpy() > 0]
    span = {"vmin": np.log(known.min()), "vmax": np.log(known.max())} if known.size else {}
    for axis, metres in zip(axes, (wanted.numpy(), found.cpu().numpy()), strict=True):
        axis.imshow(np.log(np.where(metres > 0, metres, np.nan)), cmap="magma_r", interpolation="nearest", **span)
    return set()


def draw_boxes(axes: Sequence[Axes], sample: Sample, wanted: dict, found: dict, classes: Sequence[str]) -> set[int]:
    """Boxes over the grey image, true ones and those found with a score of at least one half."""
    sure = found["scores"] >= SURE
    sets = [(wanted["boxes"], wanted["labels"]), (found["boxes"][sure], found["labels"][sure])]
    colours = palette(len(classes))
    for axis, (boxes, labels) in zip(axes, sets, strict=True):
        axis.imshow(sample.image.mean(2) / 255, cmap="gray", vmin=0, vmax=1.6)
        for (left, top, right, bottom), label in zip(boxes.tolist(), labels.tolist(), strict=True):
            axis.add_patch(
                Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colours[label], linewidth=1.5)
            )
    return {int(label) for _, labels in sets for label in labels}
