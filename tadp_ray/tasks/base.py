"""The interface of a task: target, loss, prediction, metrics and files. All tasks share one training loop."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tadp_ray.data.sample import Sample, Truth
from tadp_ray.layout import PREDICTIONS, TARGETS
from tadp_ray.pictures.comparison import Draw
from tadp_ray.tasks.files import PredictionFiles, Write

Size = tuple[int, int]
"""(height, width)."""


class Accumulated(Protocol):
    """A metric that is accumulated over a data set."""

    def accumulate(self, predicted: Any, target: Any, /) -> None:
        """Add a batch."""
        ...

    def reduce(self) -> None:
        """Combine the counts of all processes."""
        ...

    def compute(self) -> dict[str, float]:
        """Return the metrics by name."""
        ...


class Metrics(Accumulated, Protocol):
    """The metrics of a task."""

    @property
    def images(self) -> Sequence[Mapping[str, Any]]:
        """Per-image counts or metrics as JSON types; those of all processes after `reduce`."""
        ...


@dataclass(frozen=True)
class Task:
    """The functions and metrics of a task."""

    truth: Truth
    """The kind of ground truth that the task needs."""
    target: Callable[[Sample], Any]
    """Sample -> its ground truth for loss and metrics: a tensor (H, W), or boxes."""
    resize: Callable[[Any, Size, Size], Any]
    """(target, size of its image, new size) -> the target at the new size; for detection, also the predicted boxes."""
    upsample: Callable[[Tensor, Size], Tensor]
    """(output of the head (B, C, h, w), size) -> output of that size."""
    loss: Callable[[Any, Any], Tensor]
    """(output of the head, targets of the batch) -> scalar."""
    probabilities: Callable[[Tensor], Tensor] | None
    """Output (1, C, H, W) of one pass -> values to average over passes; None: one pass over the whole image only."""
    predict: Callable[[Any], Any]
    """Averaged output of an image -> prediction (1, H, W), or a list of one set of boxes; on the CPU."""
    draw: Draw
    """Draws ground truth and predictions of an image: maps (H, W), or sets of boxes."""
    arrays: Callable[[Any], dict[str, np.ndarray]]
    """Prediction of one image -> its arrays by name, with the names of a sample's ground truth where they match."""
    metrics: Callable[[Sequence[str]], Metrics]
    """Class names -> empty metrics."""
    logged_metrics: tuple[str, ...]
    """The metrics that are logged during training, where the images have them."""
    files: Callable[[Sequence[str]], PredictionFiles]
    """Class names -> the writer of ground truth and predictions of a split."""
    write: Write
    """Writes the prediction of one image."""
    counted_loss: Callable[[Any, Sequence[Tensor], Size], Tensor]
    """(head, features, image size) on the meta device -> the scalar whose backward pass is counted as cost."""
    head_targets: Callable[[Any, Sequence[torch.Generator]], Any] | None = None
    """(targets, one generator per image) -> targets for a head that samples in training; None: the head does not sample."""
    score_options: Callable[[Path], dict[str, Any]] | None = None
    """(folder of `files`) -> options of `tadp-ray score` that score them like the cell, by name: paths, numbers, flags and
    lists. `tadp-ray picture` takes the same, but systems and images in place of predictions. None: there is no such command.
    """
    main: str = ""
    """Name of the main metric, from the registry."""
    names_classes: bool = True
    """Whether predictions have classes, whose names are shown beside them."""
    not_counted: str = ""
    """The part of a step that `counted_loss` leaves out."""


def bilinear(output: Tensor, size: Size | torch.Size, align_corners: bool = False) -> Tensor:
    """Resize an output (B, C, h, w) bilinearly."""
    if output.is_cuda:
        return bilinear_by_products(output, size, align_corners)
    return F.interpolate(output, size, mode="bilinear", align_corners=align_corners)


def bilinear_by_products(output: Tensor, size: Size | torch.Size, align_corners: bool = False) -> Tensor:
    """Resize an output (B, C, h, w) bilinearly by products with a matrix for its rows and one for its columns.

    On a GPU, torch's own backward pass takes several times as long, since it adds up gradients one by one, in any order.
    """
    with torch.autocast(output.device.type, enabled=False):
        rows, columns = (
            F.interpolate(torch.eye(old, device=output.device)[None], new, mode="linear", align_corners=align_corners)[
                0
            ]
            for old, new in zip(output.shape[-2:], size, strict=True)
        )
        return rows.T @ (output.float() @ columns)


def resize_map(target: Tensor, _: Size, size: Size) -> Tensor:
    """Resize a target map (H, W) by nearest neighbour, as OpenCV and the augmentation do (`Task.resize`)."""
    if tuple(target.shape) == size:
        return target
    # In double precision: torch's own rounds some rows and columns to their neighbours.
    rows, columns = (
        (torch.arange(new, dtype=torch.float64) * (1 / (new / old))).long().clamp(max=old - 1)
        for old, new in zip(target.shape, size, strict=True)
    )
    return target[rows][:, columns]


def written(folder: Path, suffix: str = "") -> dict[str, Any]:
    """Return the options that every task scores the predictions of a cell by, see `Task.score_options`."""
    return {"predictions": folder / f"{PREDICTIONS}{suffix}", "targets": folder / f"{TARGETS}{suffix}"}


def dense_loss(loss: Callable[[Any, Any], Tensor], dtype: torch.dtype) -> Callable[..., Tensor]:
    """Return `Task.counted_loss` for a task with target maps (B, H, W) of this type."""

    def counted(head: nn.Module, features: Sequence[Tensor], size: Size) -> Tensor:
        return loss(head(features), torch.empty(len(features[0]), *size, dtype=dtype, device=features[0].device))

    return counted
