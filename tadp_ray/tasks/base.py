"""What a task is: a head, a target, a loss, a prediction and a score. One training loop serves every task."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tadp_ray.config.metrics import lower_is_better
from tadp_ray.data.sample import Sample
from tadp_ray.data.transforms import Truth
from tadp_ray.layout import PREDICTIONS, TARGETS
from tadp_ray.pictures.comparison import Draw
from tadp_ray.tasks.files import PredictionFiles, Write

Size = tuple[int, int]
"""(height, width)."""


class Metrics(Protocol):
    """A score over a data set."""

    @property
    def images(self) -> Sequence[Mapping[str, Any]]:
        """What each image adds to the score, in JSON's types; of all processes once it is reduced."""
        ...

    def accumulate(self, predicted: Any, target: Any) -> None:
        """Count a batch."""
        ...

    def reduce(self) -> None:
        """Bring together what all processes counted."""
        ...

    def compute(self) -> dict[str, float]:
        """The figures by name."""
        ...


@dataclass(frozen=True)
class Task:
    """A task as values; the model supplies the head's output, the loop supplies time."""

    truth: Truth
    """What of a sample's ground truth it needs."""
    target: Callable[[Sample], Any]
    """A sample's ground truth, as loss and metrics take it: a tensor (H, W), or boxes."""
    resize: Callable[[Any, Size, Size], Any]
    """(target, its image's size, another size) -> the target in an image of that size; of boxes predictions, too."""
    upsample: Callable[[Tensor, Size], Tensor]
    """(output of the head (B, C, h, w), size) -> output of that size."""
    loss: Callable[[Any, Any], Tensor]
    """(output of the head, targets of the batch) -> scalar."""
    probabilities: Callable[[Tensor], Tensor] | None
    """Output (1, C, H, W) of one pass over an image -> what may be averaged over passes; None: one pass, no windows."""
    predict: Callable[[Any], Any]
    """Averaged output of an image -> prediction (1, H, W), or a list of one set of boxes; on the CPU."""
    draw: Draw
    """Draws truths and predictions of an image: maps (H, W), or sets of boxes."""
    arrays: Callable[[Any], dict[str, np.ndarray]]
    """Prediction of one image -> what it holds, by name: those of a sample's ground truth where these are predicted."""
    metrics: Callable[[Sequence[str]], Metrics]
    """Class names -> an empty score."""
    logged_metrics: tuple[str, ...]
    """The metrics that are followed over training."""
    files: Callable[[Sequence[str]], PredictionFiles]
    """Class names -> what writes truths and predictions of a split."""
    write: Write
    """Writes the prediction of one image."""
    counted_loss: Callable[[nn.Module, Sequence[Tensor], Size], Tensor]
    """(head, features, image size) on the meta device -> the scalar from which the cost of a backward pass is counted."""
    head_targets: Callable[[Any, Sequence[torch.Generator]], Any] | None = None
    """(targets, a generator per image) -> what a head that samples in training is given; None: it samples nothing."""
    score_command: Callable[[Path], list[str]] | None = None
    """(folder that `files` were written to) -> the words of the command that scores them as the cell was; None: none does."""
    main: str = ""
    """The metric that a model is known by, as it is registered."""
    names_classes: bool = True
    """Whether a prediction tells classes apart, so that their names stand beside it."""
    not_counted: str = ""
    """What of its step `counted_loss` leaves out."""

    def better(self, value: float, than: float) -> bool:
        """Whether one main metric is better than another."""
        return value < than if lower_is_better(self.main) else value > than


def bilinear(output: Tensor, size: Size, align_corners: bool = False) -> Tensor:
    """Output (B, C, h, w) at another size."""
    return F.interpolate(output, size, mode="bilinear", align_corners=align_corners)


def resize_map(target: Tensor, _: Size, size: Size) -> Tensor:
    """A target map (H, W) at another size: its values at the pixels' centres (`Task.resize`)."""
    if tuple(target.shape) == size:
        return target
    return F.interpolate(target[None, None].float(), size, mode="nearest-exact")[0, 0].to(target.dtype)


def score_words(task: str, folder: Path, ending: str = "") -> list[str]:
    """The words of a command that scores what a cell predicted: with the task's own to be added."""
    words = ["tadp-ray", "score", task]
    for option, name in (("--predictions", PREDICTIONS), ("--targets", TARGETS)):
        words += [option, f"{folder / name}{ending}"]
    return words


def dense_loss(loss: Callable[[Any, Any], Tensor], dtype: torch.dtype) -> Callable[..., Tensor]:
    """`Task.counted_loss` of a task whose targets are maps (B, H, W) of this type."""

    def counted(head: nn.Module, features: Sequence[Tensor], size: Size) -> Tensor:
        return loss(head(features), torch.empty(len(features[0]), *size, dtype=dtype, device=features[0].device))

    return counted
