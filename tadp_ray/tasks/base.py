"""What a task is: a target, a loss, a prediction and a score. One training loop serves every task."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from tadp_ray.config.schema import Recipe
from tadp_ray.config.vocabulary import LOWER_IS_BETTER, MAIN_METRIC
from tadp_ray.data.sample import Sample
from tadp_ray.data.transforms import Truth
from tadp_ray.tasks.depth.metrics import DepthMetrics
from tadp_ray.tasks.detection.metrics import DetectionMetrics
from tadp_ray.tasks.losses import cross_entropy_loss, focal_loss, silog_loss
from tadp_ray.tasks.segmentation.metrics import SegmentationMetrics

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
    upsample: Callable[[Tensor, Size], Tensor]
    """(output of the head (B, C, h, w), size) -> output of that size."""
    loss: Callable[[Any, Any], Tensor]
    """(output of the head, targets of the batch) -> scalar."""
    probabilities: Callable[[Tensor], Tensor] | None
    """Output (1, C, H, W) of one pass over an image -> what may be averaged over passes; None: one pass, no windows."""
    predict: Callable[[Any], Any]
    """Averaged output of an image -> prediction (1, H, W), or a list of one set of boxes."""
    metrics: Callable[[Sequence[str]], Metrics]
    """Class names -> an empty score."""
    main: str
    """The metric that a model is known by (MAIN_METRIC)."""
    logged_metrics: tuple[str, ...]
    """The metrics that are followed over training."""

    def better(self, value: float, than: float) -> bool:
        """Whether one main metric is better than another."""
        return value < than if self.main in LOWER_IS_BETTER else value > than


def task_of(recipe: Recipe) -> Task:
    """The task of a recipe, with the loss of its head and the rules of its evaluation."""
    head, evaluation = recipe.model.head, recipe.evaluation
    match recipe.task:
        case "segmentation":
            # The published Pascal head enlarges its logits by 8 with aligned corners, mmseg's head without.
            upsample = partial(bilinear, align_corners=head.kind == "smp_fpn")
            loss = focal_loss if head.loss == "focal" else cross_entropy_loss
            return Task(
                truth="mask",
                target=mask_of,
                upsample=upsample,
                loss=lambda logits, mask: loss(upsample(logits, mask.shape[-2:]), mask),
                probabilities=lambda logits: logits.softmax(1),
                predict=lambda shares: shares.argmax(1),
                metrics=SegmentationMetrics,
                main=MAIN_METRIC["segmentation"],
                logged_metrics=("miou", "accuracy"),
            )
        case "depth":
            return Task(
                truth="depth",
                target=depth_of,
                upsample=bilinear,
                loss=lambda depth, target: silog_loss(bilinear(depth, target.shape[-2:])[:, 0], target),
                probabilities=lambda depth: depth,
                predict=lambda depth: depth[:, 0],
                metrics=partial(depth_metrics, max_depth=head.max_depth, eigen_crop=evaluation.eigen_crop),
                main=MAIN_METRIC["depth"],
                logged_metrics=("rmse", "abs_rel", "delta1"),
            )
    return Task(
        truth="boxes",
        target=boxes_of,
        upsample=bilinear,
        loss=lambda losses, _: sum(losses.values()),
        probabilities=None,
        predict=lambda found: found,
        metrics=DetectionMetrics,
        main=MAIN_METRIC["detection"],
        logged_metrics=("ap50", "ap"),
    )


def bilinear(output: Tensor, size: Size, align_corners: bool = False) -> Tensor:
    """Output (B, C, h, w) at another size."""
    return F.interpolate(output, size, mode="bilinear", align_corners=align_corners)


def depth_metrics(_: Sequence[str], *, max_depth: float, eigen_crop: bool) -> DepthMetrics:
    """An empty score of depth, which knows no classes."""
    return DepthMetrics(max_depth, eigen_crop)


def mask_of(sample: Sample) -> Tensor:
    """Class indices (H, W), int64."""
    return torch.from_numpy(sample.mask.astype("int64"))


def depth_of(sample: Sample) -> Tensor:
    """Metres (H, W), float32."""
    return torch.from_numpy(sample.depth.astype("float32"))


def boxes_of(sample: Sample) -> dict[str, Tensor]:
    """Boxes (N, 4), class labels (N,) and which objects count as difficult (N,)."""
    difficult = sample.difficult if sample.difficult is not None else [False] * len(sample.boxes)
    return {
        "boxes": torch.from_numpy(sample.boxes.astype("float32")),
        "labels": torch.from_numpy(sample.box_classes.astype("int64")),
        "difficult": torch.as_tensor(difficult, dtype=torch.bool),
    }
