"""Figure S4: predictions of a model that was trained with correct names when the prompt contains all names."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from tadp_ray.config.analysis import OffTarget
from tadp_ray.config.claims import Measured
from tadp_ray.config.data import CaptionConfig
from tadp_ray.data.datasets import Datasets
from tadp_ray.data.sample import IGNORE
from tadp_ray.errors import UserError
from tadp_ray.paper.analysis.finding import Outcome, Trained
from tadp_ray.paper.analysis.images import look_alikes
from tadp_ray.paper.analysis.trained import Segmenter, load_segmenter
from tadp_ray.pictures.files import write_both
from tadp_ray.training.evaluate import truth
from tadp_ray.training.setup import Cache

KEPT = ("include_background", "modifiers", "modifiers_apply", "encoding", "embeddings", "templates")
"""Keys of `caption` on which both prompts agree."""
STRONGEST = 10
"""Number of confusions in the results."""


def off_target(config: OffTarget, found: Sequence[Trained], device: torch.device, folder: Path) -> Outcome:
    """Evaluate models trained with correct names with the present names, then with all names.

    Args:
        config: groups of classes that look alike.
        found: the models, one per seed.
        device: device to run on.
        folder: output folder of the figure.

    Raises:
        UserError: weights are damaged, or the data have no such classes.
    """
    alike, present, every, seeds = {}, [], [], []
    cache = Cache(Datasets(found[0].cell.recipe.compute.folder))
    for one in found:
        segmenter = load_segmenter(one, device, cache)
        classes = segmenter.setup.val.classes
        alike = look_alikes(classes, config.groups)
        # All else as in training, so that the names alone differ.
        kept = segmenter.setup.recipe.caption.model_dump(include={*KEPT})
        all_names = CaptionConfig(source="class_names", **kept)
        matrices = [confusion(segmenter, caption) for caption in (None, all_names)]
        seeds.append(compared(classes, alike, *matrices))
        present.append(shares_of(matrices[0][0]))
        every.append(shares_of(matrices[1][0]))
    means = np.mean(present, 0), np.mean(every, 0)
    numbers = {name: float(np.mean([seed[name] for seed in seeds])) for name in seeds[0]}
    numbers |= {
        f"{name}, SD": float(np.std([seed[name] for seed in seeds], ddof=1)) for name in seeds[0] if len(seeds) > 1
    }
    for place, (shown, taken, rise) in enumerate(strongest(classes, means[1] - means[0]), 1):
        numbers[f"rise {place:02d} in points: {shown} as {taken}"] = rise
    return Outcome(numbers, measures(seeds), write_both(draw(classes, *means), folder / "off_target.png"))


def confusion(segmenter: Segmenter, caption: CaptionConfig | None) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Return summed softmax scores (true class, class) in float64, pixels of each true class, and mIoU in percent."""
    setup = segmenter.setup
    count = len(setup.val.classes)
    sums, score = torch.zeros(count, count, dtype=torch.float64), setup.task.metrics(setup.val.classes)
    pixels = torch.zeros(count, dtype=torch.float64)
    for index, probabilities in segmenter.probabilities(caption):
        target = truth(setup, index)
        score.accumulate(probabilities.argmax(0)[None].cpu(), target)
        valid = target[0] != IGNORE
        labels = target[0][valid]
        sums.index_add_(0, labels, probabilities.cpu().double()[:, valid].T)
        pixels += torch.bincount(labels, minlength=count)
    return sums, pixels, score.compute()["miou"]


def shares_of(sums: torch.Tensor) -> np.ndarray:
    """Return the mean scores of each true class in percent; NaN for a class without pixels."""
    total = sums.sum(1, keepdim=True)
    return (100 * torch.where(total > 0, sums / total, torch.nan)).numpy()


def compared(
    classes: Sequence[str],
    alike: Mapping[str, Sequence[str]],
    present: tuple[torch.Tensor, torch.Tensor, float],
    every: tuple[torch.Tensor, torch.Tensor, float],
) -> dict[str, float]:
    """Return one model's metrics: mean probabilities in percent over the pixels of classes that have look-alikes, and mIoU.

    Raises:
        UserError: no image shows such a class.
    """
    rows = [classes.index(name) for name in classes if name in alike]
    pixels = float(present[1][rows].sum())
    if not pixels:
        raise UserError("spec.groups: no evaluation image shows one of their classes; name classes that it shows")
    near = torch.tensor([[other in alike.get(name, ()) for other in classes] for name in classes])
    far = torch.tensor([[other in alike and other != name for other in classes] for name in classes]) & ~near
    metrics = {}
    for kind, which in (("look-alikes", near), ("others", far)):
        before, after = (100 * float((sums * which)[rows].sum()) / pixels for sums, _, _ in (present, every))
        # Groups may differ in size, so each pixel counts those of its own class.
        others = float((which[rows].sum(1) * present[1][rows]).sum()) / pixels
        metrics |= {
            f"{kind}: percent with present names": before,
            f"{kind}: percent with all names": after,
            f"{kind}: rise in points": after - before,
            f"{kind}: rise of each in points": (after - before) / others,
        }
    before, after = present[2], every[2]
    return metrics | {
        "mIoU: percent with present names": before,
        "mIoU: percent with all names": after,
        "mIoU: lost in points": before - after,
    }


def measures(seeds: Sequence[Mapping[str, float]]) -> dict[str, Measured]:
    """Return the measures for claims: each is the smallest value over the trained models."""
    values = {
        "look-alikes": [seed["look-alikes: rise in points"] for seed in seeds],
        "each look-alike": [
            seed["look-alikes: rise of each in points"] - seed["others: rise of each in points"] for seed in seeds
        ],
        "lost mIoU": [seed["mIoU: lost in points"] for seed in seeds],
    }
    return {name: Measured(min(each), len(each), "seeds") for name, each in values.items()}


def strongest(classes: Sequence[str], rise: np.ndarray) -> list[tuple[str, str, float]]:
    """Return the confusions that increase most with all names: true class, class, points."""
    off = np.where(np.eye(len(classes), dtype=bool) | ~np.isfinite(rise), -np.inf, rise)
    order = [place for place in np.argsort(off, axis=None)[::-1][:STRONGEST] if np.isfinite(off.flat[place])]
    return [
        (classes[i], classes[j], float(rise[i, j])) for i, j in zip(*np.unravel_index(order, off.shape), strict=True)
    ]


def draw(classes: Sequence[str], present: np.ndarray, every: np.ndarray) -> Figure:
    """Draw both matrices in one colour range, and their difference."""
    side = 1.5 + 0.17 * len(classes)
    figure = Figure(figsize=(3 * side, side + 0.4), layout="constrained", dpi=150)
    most = float(np.nanmax(np.abs(every - present)))
    panels = (
        ("present names (%)", present, {"cmap": "cividis", "vmin": 0, "vmax": 100}),
        ("all names (%)", every, {"cmap": "cividis", "vmin": 0, "vmax": 100}),
        ("all less present (points)", every - present, {"cmap": "PuOr", "vmin": -most, "vmax": most}),
    )
    for axes, (title, values, style) in zip(figure.subplots(1, 3), panels, strict=True):
        image = axes.imshow(np.ma.masked_invalid(values), interpolation="nearest", **style)
        axes.set_xticks(range(len(classes)), classes, rotation=90, fontsize=7)
        axes.set_yticks(range(len(classes)), classes, fontsize=7)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("class that is scored", fontsize=8)
        axes.tick_params(length=0)
        figure.colorbar(image, ax=axes, shrink=0.8)
    figure.axes[0].set_ylabel("class of the pixel", fontsize=8)
    figure.suptitle("Softmax scores averaged over the pixels of each class", fontsize=10)
    return figure
