"""Evaluates a model on a validation split: whole images or sliding windows, at several sizes, optionally mirrored."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from tadp_ray.captions.prompts import as_text
from tadp_ray.config.schema import EvaluationConfig
from tadp_ray.data.loader import batch_targets
from tadp_ray.data.sample import annotation
from tadp_ray.tasks.base import Metrics, Size, bilinear
from tadp_ray.training.distributed import ProcessGroup
from tadp_ray.training.model import TADP
from tadp_ray.training.precision import autocast
from tadp_ray.training.rng import view_noise
from tadp_ray.training.setup import TrainSetup, padded
from tadp_ray.training.transfer import prefetched, to_device

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


def predictions(
    model: TADP,
    setup: TrainSetup,
    latents: Mapping[str, Tensor],
    indices: Sequence[int],
    device: torch.device,
) -> Iterator[tuple[int, Any]]:
    """Yield (index, prediction at the scored size) of each image, in order and on the CPU: (1, H, W), or a list of one."""
    for index, output in outputs(model, setup, latents, indices, device):
        yield index, setup.task.predict(output)


@torch.no_grad()
def outputs(
    model: TADP,
    setup: TrainSetup,
    latents: Mapping[str, Tensor],
    indices: Sequence[int],
    device: torch.device,
) -> Iterator[tuple[int, Any]]:
    """Yield (index, output at the scored size) of each image, in order.

    An output is (1, C, H, W): the head's output of one pass, or probabilities averaged over several; or a list of one set of
    boxes.
    """
    scans, recipe = passes(setup.recipe.evaluation), setup.recipe
    chunks = chunks_of(setup, latents, indices, scans, recipe.schedule.images_per_pass, model.backbone.noise_samples)
    for chunk, inputs in prefetched(chunks, device):
        found: dict[str, Any] = {}
        for keys, views, contexts, noise, embeddings in inputs:
            added = None if noise is None else to_device(noise, device)
            told = [to_device(each, device) for each in embeddings]
            with autocast(device, recipe.schedule.precision):
                output = model(to_device(views, device), to_device(contexts, device), noise=added, embeddings=told)
            found |= zip(keys, output.float() if isinstance(output, Tensor) else output, strict=True)
        for i in chunk:
            yield i, combined(setup, i, scans, found)


Windows = tuple[list[str], Tensor, Tensor, Tensor | None, list[Tensor]]
"""A batch of windows: keys, latents (B, C, h, w), contexts of captions (B, L, D), noise to add to the latents (B, S, C, h, w),
and embeddings (B, E) for each source of the context that reads images.
"""


def chunks_of(
    setup: TrainSetup,
    latents: Mapping[str, Tensor],
    indices: Sequence[int],
    scans: Sequence[Pass],
    size: int,
    samples: int,
) -> Iterator[tuple[Sequence[int], list[Windows]]]:
    """Yield `size` images at a time, with the batches of all their windows and `samples` of noise for each."""
    readers = [source.kind for source in setup.recipe.model.context.readers_of_images]
    for first in range(0, len(indices), size):
        chunk = indices[first : first + size]
        windows = [
            (latents[key], key, i, place)
            for i in chunk
            for place, key in enumerate(
                key_of(i, scan, number) for scan in scans for number in range(len(views_of(setup, i, scan)))
            )
        ]
        inputs = []
        for batch in batches(windows, size, lambda window: window[0].shape):
            views, keys, owners, places = zip(*batch, strict=True)
            ids, noise = [setup.val.ids[i] for i in owners], None
            if samples:
                shape = views[0].shape
                drawn = [view_noise(setup.seed, *view, samples, shape) for view in zip(ids, places, strict=True)]
                noise = torch.stack(drawn)
            contexts = setup.contexts([setup.val_prompts[image_id] for image_id in ids])
            embeddings = [torch.stack([latents[embedding_key(key, kind)] for key in keys]) for kind in readers]
            inputs.append((list(keys), torch.stack(views), contexts, noise, embeddings))
        yield chunk, inputs


def combined(setup: TrainSetup, index: int, scans: Sequence[Pass], found: Mapping[str, Any]) -> Any:
    """Return an image's output, combined from the head's outputs of its windows."""
    size, task = setup.scored_size(index), setup.task
    if task.probabilities is None:
        return [task.resize(found[key_of(index, scans[0], 0)], setup.evaluated_size(index), size)]
    wholes = []
    for scan in scans:
        boxes = views_of(setup, index, scan)
        parts = [found[key_of(index, scan, number)] for number in range(len(boxes))]
        whole = assemble(parts, boxes, setup.evaluated_size(index, scan.factor), setup.multiple, task.upsample)
        whole = bilinear(whole, size)
        wholes.append(whole.flip(-1) if scan.mirrored else whole)
    # A single pass keeps its logits: probabilities have the same order, but are rounded.
    return wholes[0] if len(wholes) == 1 else torch.stack([task.probabilities(whole) for whole in wholes]).mean(0)


def truth(setup: TrainSetup, index: int) -> Any:
    """Return a validation image's ground truth at the scored size, as a batch of one."""
    target, size = setup.task.target(annotation(setup.val, index)), setup.scored_size(index)
    return batch_targets([setup.task.resize(target, setup.val.sizes[index], size)])


@torch.no_grad()
def evaluate(
    model: TADP,
    setup: TrainSetup,
    latents: Mapping[str, Tensor],
    device: torch.device,
    world: ProcessGroup,
) -> Metrics:
    """Return the metrics over the whole validation split.

    Each process evaluates its part of the images, in the same batches as one process alone would. Counts are summed, and
    per-image records gathered in the order of the images, so that the metrics do not depend on the number of processes.
    """
    model.eval()
    size = setup.recipe.schedule.images_per_pass
    metrics = setup.task.metrics(setup.val.classes)
    indices = world.part(len(setup.val), size)
    targets = prefetched((truth(setup, index) for index in indices), device, ahead=size)
    for (_, prediction), target in zip(predictions(model, setup, latents, indices, device), targets, strict=True):
        metrics.accumulate(prediction, target)
    metrics.reduce()
    model.train()
    return metrics


def per_image_records(setup: TrainSetup, score: Metrics) -> Iterator[dict[str, Any]]:
    """Yield the prompt and the metrics of each validation image, as JSON types."""
    prompts = setup.val_prompts
    for image_id, metrics in zip(setup.val.ids, score.images, strict=True):
        fit = prompts.fits[image_id]
        yield {
            "id": image_id,
            "prompt": as_text(prompts[image_id]),
            "precision": fit.precision,
            "recall": fit.recall,
            **metrics,
        }
