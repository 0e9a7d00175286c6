"""Figure S4: what a model that was trained with right names makes of an image when it is told all names."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from tadp_ray.config.analysis import OffTarget
from tadp_ray.config.claims import Measured
from tadp_ray.config.data import CaptionConfig
from tadp_ray.data.sample import IGNORE
from tadp_ray.paper.analysis.finding import Outcome, Trained
from tadp_ray.paper.analysis.shown import look_alikes
from tadp_ray.paper.analysis.trained import Segmenter, load_segmenter
from tadp_ray.pictures.files import write_both
from tadp_ray.training.evaluate import truth

STRONGEST = 10
"""Confusions that are told."""


def off_target(config: OffTarget, found: Sequence[Trained], device: torch.device, folder: Path) -> Outcome:
    """Tell models trained with right names the present names, then all names.

    Args:
        config: which classes look alike.
        found: the models, one a seed.
        device: what to run on.
        folder: where the picture goes.

    Raises:
        UserError: their weights are damaged, or their data have no such classes.
    """
    alike, present, every, seeds = {}, [], [], []
    for one in found:
        segmenter = load_segmenter(one, device)
        classes = segmenter.setup.val.classes
        alike = look_alikes(classes, config.groups)
        told = segmenter.setup.recipe.caption.include_background
        all_names = CaptionConfig(source="class_names", include_background=told)
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
    """Summed softmax scores (true class, class) in float64, pixels of each true class, and mIoU in percent."""
    setup = segmenter.setup
    count = len(setup.val.classes)
    sums, score = torch.zeros(count, count, dtype=torch.float64), setup.task.metrics(setup.val.classes)
    pixels = torch.zeros(count, dtype=torch.float64)
    for index, shares in segmenter.shares(caption):
        wanted = truth(setup, index)
        score.accumulate(shares.argmax(0)[None].cpu(), wanted)
        valid = wanted[0] != IGNORE
        labels = wanted[0][valid]
        sums.index_add_(0, labels, shares.cpu().double()[:, valid].T)
        pixels += torch.bincount(labels, minlength=count)
    return sums, pixels, score.compute()["miou"]


def shares_of(sums: torch.Tensor) -> np.ndarray:
    """Mean scores of each true class in percent; a class without pixels has none (NaN)."""
    total = sums.sum(1, keepdim=True)
    return (100 * torch.where(total > 0, sums / total, torch.nan)).numpy()


def compared(
    classes: Sequence[str],
    alike: Mapping[str, Sequence[str]],
    present: tuple[torch.Tensor, torch.Tensor, float],
    every: tuple[torch.Tensor, torch.Tensor, float],
) -> dict[str, float]:
    """One model's figures in percent of a pixel's probability, averaged over the pixels of classes that have look-alikes."""
    rows = [classes.index(name) for name in classes if name in alike]
    pixels = float(present[1][rows].sum())
    near = torch.tensor([[other in alike.get(name, ()) for other in classes] for name in classes])
    far = torch.tensor([[other in alike and other != name for other in classes] for name in classes]) & ~near
    figures = {}
    for kind, which in (("look-alikes", near), ("others", far)):
        before, after = (100 * float((sums * which)[rows].sum()) / pixels for sums, _, _ in (present, every))
        figures |= {
            f"{kind}: percent with present names": before,
            f"{kind}: percent with all names": after,
            f"{kind}: rise in points": after - before,
            f"{kind}: rise of each in points": (after - before) / float(which[rows].sum(1).double().mean()),
        }
    before, after = present[2], every[2]
    return figures | {
        "mIoU: percent with present names": before,
        "mIoU: percent with all names": after,
        "mIoU: lost in points": before - after,
    }


def measures(seeds: Sequence[Mapping[str, float]]) -> dict[str, Measured]:
    """What claims are about: the model of those trained in which each shows least."""
    values = {
        "look-alikes": [seed["look-alikes: rise in points"] for seed in seeds],
        "each look-alike": [
            seed["look-alikes: rise of each in points"] - seed["others: rise of each in points"] for seed in seeds
        ],
        "lost mIoU": [seed["mIoU: lost in points"] for seed in seeds],
    }
    return {name: Measured(min(own), len(own), "seeds") for name, own in values.items()}


def strongest(classes: Sequence[str], rise: np.ndarray) -> list[tuple[str, str, float]]:
    """The confusions that all names strengthen most: true class, class, points."""
    off = np.where(np.eye(len(classes), dtype=bool) | ~np.isfinite(rise), -np.inf, rise)
    order = np.argsort(off, axis=None)[::-1][:STRONGEST]
    return [
        (classes[i], classes[j], float(rise[i, j])) for i, j in zip(*np.unravel_index(order, off.shape), strict=True)
    ]


def draw(classes: Sequence[str], present: np.ndarray, every: np.ndarray) -> Figure:
    """Both matrices in one colour range, and their difference."""
    side = 1.5 + 0.17 * len(classes)
    figure = Figure(figsize=(3 * side, side + 0.4), layout="constrained", dpi=150)
    most = float(np.nanmax(np.abs(every - present)))
    panels = (
        ("present names (%)", present, {"cmap": "cividis", "vmin": 0, "vmax": 100}),
        ("all names (%)", every, {"cmap": "cividis", "vmin": 0, "vmax": 100}),
        ("all less present (points)", every - present, {"cmap": "PuOr", "vmin": -most, "vmax": most}),
    )
    for axes, (title, values, look) in zip(figure.subplots(1, 3), panels, strict=True):
        image = axes.imshow(np.ma.masked_invalid(values), interpolation="nearest", **look)
        axes.set_xticks(range(len(classes)), classes, rotation=90, fontsize=7)
        axes.set_yticks(range(len(classes)), classes, fontsize=7)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("class that is scored", fontsize=8)
        axes.tick_params(length=0)
        figure.colorbar(image, ax=axes, shrink=0.8)
    figure.axes[0].set_ylabel("class of the pixel", fontsize=8)
    figure.suptitle("Softmax scores averaged over the pixels of each class", fontsize=10)
    return figure
