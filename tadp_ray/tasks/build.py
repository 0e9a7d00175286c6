"""Builds the tasks, heads and metrics of recipes, which are registered in `tadp_ray.registry`.

A head is built by `Head(channels, strides, classes, config)` and called by `head(features, dropout_mask=..., image_size=...,
targets=...)`, with one feature map per level, largest first. A dense head uses only the mask and returns one map: class logits
(B, classes, h, w) or metres (B, 1, h, w). The detection head uses size and targets, and returns losses in training and boxes in
evaluation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from tadp_ray.config.model import HeadConfig
from tadp_ray.config.recipe import Recipe
from tadp_ray.errors import UserError
from tadp_ray.registry import HEADS, METRICS, TASKS, check_interface, check_type, implementation
from tadp_ray.tasks.base import Accumulated, Metrics, Task


def task_of(recipe: Recipe) -> Task:
    """Return the task of a recipe, with the loss of its head, its evaluation settings and all metrics registered for it."""
    entry = TASKS[recipe.task]
    task: Task = implementation(entry.implementation)(recipe)
    check_type(task, Task, f"task {recipe.task!r}")
    registered = [metric.name for metric in entry.metrics]
    if unknown := sorted({*task.logged_metrics} - {*registered}):
        raise UserError(
            f"task {recipe.task!r}: logged_metrics has {unknown[0]}, which is not registered; use {', '.join(registered)}"
        )
    extra = {name: implementation(own.implementation) for name, own in METRICS.items() if own.task == recipe.task}

    def metrics(classes: Sequence[str]) -> Metrics:
        own = task.metrics(classes)
        check_interface(own, Metrics, f"task {recipe.task!r}: metrics")
        made = {name: make(classes) for name, make in extra.items()}
        for name, each in made.items():
            check_interface(each, Accumulated, f"metric {name!r}")
        return CombinedMetrics(own, made) if made else own

    return replace(task, main=entry.main, metrics=metrics)


class CombinedMetrics:
    """The metrics of a task together with extra metrics; per-image records are those of the task."""

    def __init__(self, main: Metrics, extra: Mapping[str, Any]) -> None:
        self._main, self._extra, self._all = main, extra, (main, *extra.values())

    @property
    def images(self) -> Sequence[Any]:
        """The per-image records of the task's metrics."""
        return self._main.images

    def accumulate(self, predicted: Any, target: Any) -> None:
        """Add a batch."""
        for metrics in self._all:
            metrics.accumulate(predicted, target)

    def reduce(self) -> None:
        """Combine the counts of all processes."""
        for metrics in self._all:
            metrics.reduce()

    def compute(self) -> dict[str, float]:
        """Return all metrics by name.

        Raises:
            UserError: an extra metric lacks its own value, or would replace another metric's.
        """
        found = dict(self._main.compute())
        for name, metrics in self._extra.items():
            own = metrics.compute()
            if name not in own or own.keys() & found.keys():
                raise UserError(
                    f"metric {name!r}: compute returned {', '.join(map(repr, own))}; expected {name!r} alone"
                )
            found |= own
        return found


def build_head(channels: Sequence[int], strides: Sequence[int], classes: int, config: HeadConfig) -> nn.Module:
    """Build the head of a recipe, with fresh weights.

    Args:
        channels: channels of each feature level of the backbone, largest level first.
        strides: stride of each level in image pixels.
        classes: number of classes, without the background of detection; depth ignores it.
        config: settings of the head.

    Raises:
        UserError: the head does not fit these levels.
    """
    head = implementation(HEADS[config.kind].implementation)(channels, strides, classes, config)
    check_type(head, nn.Module, f"head {config.kind!r}")
    return head
