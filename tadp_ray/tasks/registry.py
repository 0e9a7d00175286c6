"""Tasks, heads and metrics by the names that recipes give them, built from what is registered (`tadp_ray.registry`).

Every head is built as `Head(channels, strides, classes, config)` and called as `head(features, dropout_mask=..., image_size=...,
targets=...)`, with features of any number of levels that it was built for, largest first. A dense head takes the mask alone and
gives one map: class logits (B, classes, h, w) or metres (B, 1, h, w). The detection head takes size and targets, and gives losses
in training, boxes in evaluation.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from tadp_ray.config.model import HeadConfig
from tadp_ray.config.schema import Recipe
from tadp_ray.registry import HEADS, METRICS, TASKS, implementation
from tadp_ray.tasks.base import Metrics, Task


def task_of(recipe: Recipe) -> Task:
    """The task of a recipe, with the loss of its head, the rules of its evaluation, and every metric registered for it."""
    entry = TASKS[recipe.task]
    task: Task = implementation(entry.implementation)(recipe)
    extra = [implementation(metric.implementation) for metric in METRICS.values() if metric.task == recipe.task]

    def metrics(classes: Sequence[str]) -> Metrics:
        return MoreMetrics(task.metrics(classes), [make(classes) for make in extra])

    return replace(task, main=entry.main, **({"metrics": metrics} if extra else {}))


class MoreMetrics:
    """A task's own score together with others of the same predictions; what is kept of each image is the first's."""

    def __init__(self, own: Metrics, extra: Sequence[Any]) -> None:
        self._own, self._all = own, (own, *extra)

    @property
    def images(self) -> Sequence[Any]:
        """What each image adds to the task's own score."""
        return self._own.images

    def accumulate(self, predicted: Any, target: Any) -> None:
        """Count a batch."""
        for score in self._all:
            score.accumulate(predicted, target)

    def reduce(self) -> None:
        """Bring together what all processes counted."""
        for score in self._all:
            score.reduce()

    def compute(self) -> dict[str, float]:
        """The figures of all by name."""
        return {name: value for score in self._all for name, value in score.compute().items()}


def build_head(channels: Sequence[int], strides: Sequence[int], classes: int, config: HeadConfig) -> nn.Module:
    """The head that a recipe names, with fresh weights.

    Args:
        channels: of each level of the backbone's features, largest first.
        strides: of each level, in image pixels.
        classes: how many a head tells apart, background not counted for boxes; depth has none.
        config: the head's own.

    Raises:
        UserError: the head is not made for such levels.
    """
    return implementation(HEADS[config.kind].implementation)(channels, strides, classes, config)
