"""The views of an evaluated image: whole or sliding windows, at several sizes, optionally mirrored, and their assembly."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeVar

import torch.nn.functional as F
from torch import Tensor

from tadp_ray.config.recipe import EvaluationConfig
from tadp_ray.tasks.base import Size
from tadp_ray.training.setup import TrainSetup, padded

T = TypeVar("T")
Box = tuple[int, int, int, int]  # top, left, height, width in pixels of the evaluated image


def view_boxes(height: int, width: int, config: EvaluationConfig) -> list[Box]:
    """Return the boxes of the views of an image: the whole image, or windows (the last ones shifted inwards, as in mmseg)."""
    if config.mode == "whole":
        return [(0, 0, height, width)]
    crop_height, crop_width = min(config.crop, height), min(config.crop, width)
    tops = _starts(height, crop_height, config.stride)
    lefts = _starts(width, crop_width, config.stride)
    return [(top, left, crop_height, crop_width) for top in tops for left in lefts]


def _starts(length: int, crop: int, stride: int) -> list[int]:
    steps = max(length - crop + stride - 1, 0) // stride + 1
    return [min(step * stride, length - crop) for step in range(steps)]


def cut(image: Tensor, box: Box, multiple: int) -> Tensor:
    """Return one view (3, h, w), padded at bottom and right with mid-grey to multiples of `multiple`."""
    top, left, height, width = box
    view = image[:, top : top + height, left : left + width]
    high, wide = padded((height, width), multiple)
    return F.pad(view, (0, wide - width, 0, high - height))


def assemble(
    logits: Sequence[Tensor],
    boxes: Sequence[Box],
    size: Size,
    multiple: int,
    upsample: Callable[[Tensor, Size], Tensor],
) -> Tensor:
    """Return the mean logits (1, C, H, W) of overlapping views; `logits` are (C, h, w) at the head's resolution."""
    total = logits[0].new_zeros((1, logits[0].shape[0], *size))
    count = logits[0].new_zeros((1, 1, *size))
    for view, (top, left, height, width) in zip(logits, boxes, strict=True):
        full = upsample(view[None], padded((height, width), multiple))[..., :height, :width]
        total[..., top : top + height, left : left + width] += full
        count[..., top : top + height, left : left + width] += 1
    return total / count


@dataclass(frozen=True)
class Pass:
    """One evaluation pass over a whole image: a size factor, mirrored or not."""

    factor: float = 1.0
    mirrored: bool = False


def passes(config: EvaluationConfig) -> list[Pass]:
    """Return the evaluation passes whose predictions are averaged."""
    return [Pass(factor, mirrored) for factor in config.scales for mirrored in (False, True)[: 1 + config.flip]]


def views_of(setup: TrainSetup, index: int, scan: Pass) -> list[Box]:
    """Return the windows of one pass over a validation image."""
    return view_boxes(*setup.evaluated_size(index, scan.factor), setup.recipe.evaluation)


def key_of(index: int, scan: Pass, number: int) -> str:
    """Return the key of the latent of one window."""
    return f"{index}/{scan.factor:g}{'m' if scan.mirrored else ''}/{number}"


def embedding_key(key: str, kind: str) -> str:
    """Return the key of what a source's image encoder says about a window, beside the key of its latent."""
    return f"{key}/{kind}"


@dataclass(frozen=True)
class View:
    """One window of one pass over a validation image."""

    key: str
    """From `key_of`."""
    image_id: str
    number: int
    """Of the window among those of all passes over its image."""
    pixels: Tensor
    """(3, h, w), normalized."""


def evaluation_views(setup: TrainSetup, indices: Sequence[int]) -> Iterator[View]:
    """Yield all windows of all passes over the given images."""
    for index in indices:
        sample, count = setup.val[index], itertools.count()
        for scan in passes(setup.recipe.evaluation):
            image = setup.evaluated(sample.image, index, scan.factor)
            image = image.flip(-1) if scan.mirrored else image
            for number, box in enumerate(views_of(setup, index, scan)):
                yield View(
                    key_of(index, scan, number), sample.id, next(count), cut(image, box, setup.multiple).contiguous()
                )


def batches(items: Iterable[T], size: int, shape: Callable[[T], Any]) -> Iterator[list[T]]:
    """Yield consecutive items of the same shape, at most `size` together."""
    for _, same in groupby(items, key=shape):
        while batch := list(itertools.islice(same, size)):
            yield batch
