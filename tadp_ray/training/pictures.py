"""What a trained cell sees: a few validation images with truth, prediction and the prompt they were given."""

import textwrap
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor, nn

from tadp_ray.data.sample import IGNORE
from tadp_ray.training.evaluate import predict_logits
from tadp_ray.training.study import Study


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
    colours = palette(len(study.val.classes))
    figure = Figure(figsize=(8, 2.1 * len(indices)), layout="constrained")
    grid = figure.subplots(len(indices), 3, squeeze=False)
    shown: set[int] = set()
    for row, (index, logits) in zip(grid, predict_logits(model, study, latents, indices, device), strict=True):
        sample = study.val[index]
        guess = study.task.predict(logits, sample.mask.shape)[0].cpu().numpy()
        shown |= set(np.unique(sample.mask)) | set(np.unique(guess))
        for axis, picture in zip(row, (sample.image, paint(sample.mask, colours), paint(guess, colours)), strict=True):
            axis.imshow(picture, interpolation="nearest")
            axis.set_axis_off()
        prompt = study.val_prompts[sample.id] or "(empty prompt)"
        row[0].set_title("\n".join(textwrap.wrap(prompt, 34)[:3]), fontsize=8, loc="left")
    grid[0][1].set_title("truth", fontsize=9)
    grid[0][2].set_title("prediction", fontsize=9)
    names = [Patch(color=colours[c], label=study.val.classes[c]) for c in sorted(shown - {IGNORE})]
    figure.legend(handles=names, loc="outside right upper", fontsize=8, frameon=False)
    draft = path.with_suffix(".part")
    FigureCanvasAgg(figure).print_png(draft)
    draft.replace(path)
