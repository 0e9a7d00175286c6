"""Scores a model on a validation split: whole images or sliding windows, at several sizes, mirrored, as a recipe asks."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tadp_ray.captions.prompts import as_text
from tadp_ray.config.schema import EvaluationConfig
from tadp_ray.data.loader import batch_targets
from tadp_ray.tasks.base import Metrics, Size, bilinear
from tadp_ray.training.distributed import ProcessGroup
from tadp_ray.training.setup import TrainSetup

Box = tuple[int, int, int, int]  # top, left, height, width in pixels of the evaluated image


def view_boxes(height: int, width: int, config: EvaluationConfig) -> list[Box]:
    """Where the model looks: the whole image, or windows that cover it (the last ones shifted inwards, as mmseg does)."""
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
    """One view (3, h, w), padded at bottom and right with mid-grey to sides that the backbone takes."""
    top, left, height, width = box
    view = image[:, top : top + height, left : left + width]
    return F.pad(view, (0, -width % multiple, 0, -height % multiple))


def assemble(
    logits: Sequence[Tensor],
    boxes: Sequence[Box],
    size: Size,
    multiple: int,
    upsample: Callable[[Tensor, Size], Tensor],
) -> Tensor:
    """Mean logits (1, C, H, W) of overlapping views; `logits` are (C, h, w) at the head's resolution."""
    total = logits[0].new_zeros((1, logits[0].shape[0], *size))
    count = logits[0].new_zeros((1, 1, *size))
    for view, (top, left, height, width) in zip(logits, boxes, strict=True):
        padded = (height + -height % multiple, width + -width % multiple)
        full = upsample(view[None], padded)[..., :height, :width]
        total[..., top : top + height, left : left + width] += full
        count[..., top : top + height, left : left + width] += 1
    return total / count


@dataclass(frozen=True)
class Pass:
    """One way to look at a whole image: a size factor, mirrored or not."""

    factor: float = 1.0
    mirrored: bool = False


def passes(config: EvaluationConfig) -> list[Pass]:
    """Every pass whose predictions are averaged."""
    return [Pass(factor, mirrored) for factor in config.scales for mirrored in (False, True)[: 1 + config.flip]]


def views_of(setup: TrainSetup, index: int, look: Pass) -> list[Box]:
    """The windows of one pass over a validation image."""
    return view_boxes(*setup.evaluated_size(index, look.factor), setup.recipe.evaluation)


def key_of(index: int, look: Pass, number: int) -> str:
    """What the latent of one window is kept under."""
    return f"{index}/{look.factor:g}{'m' if look.mirrored else ''}/{number}"


def encode_views(
    setup: TrainSetup, encode: Callable[[Tensor, str, int], Tensor], indices: Sequence[int]
) -> dict[str, Tensor]:
    """Latents of every window of every pass over the given images; `encode(images, id, view)` runs the VAE."""
    latents = {}
    for index in indices:
        sample, view = setup.val[index], itertools.count()
        for look in passes(setup.recipe.evaluation):
            image = setup.evaluated(sample.image, index, look.factor)
            image = image.flip(-1) if look.mirrored else image
            for number, box in enumerate(views_of(setup, index, look)):
                window = cut(image, box, setup.multiple)[None]
                latents[key_of(index, look, number)] = encode(window, sample.id, next(view))[0]
    return latents


def batches(keys: Sequence[str], latents: Mapping[str, Tensor], size: int) -> Iterator[list[str]]:
    """Keys of consecutive views of the same shape, at most `size` together."""
    for _, group in groupby(keys, key=lambda key: latents[key].shape):
        same = list(group)
        yield from (same[first : first + size] for first in range(0, len(same), size))


def predictions(
    model: torch.nn.Module,
    setup: TrainSetup,
    latents: Mapping[str, Tensor],
    indices: Sequence[int],
    device: torch.device,
) -> Iterator[tuple[int, Any]]:
    """(index, prediction at the size that is scored) of each image, in order and on the CPU: (1, H, W), or a list of one."""
    for index, output in outputs(model, setup, latents, indices, device):
        yield index, setup.task.predict(output)


@torch.no_grad()
def outputs(
    model: torch.nn.Module,
    setup: TrainSetup,
    latents: Mapping[str, Tensor],
    indices: Sequence[int],
    device: torch.device,
) -> Iterator[tuple[int, Any]]:
    """(index, what the head makes of it at the size that is scored) of each image, in order.

    (1, C, H, W), the head's own of one pass or shares averaged over several; or a list of one set of boxes.
    """
    looks, size = passes(setup.recipe.evaluation), setup.recipe.schedule.images_per_pass
    for first in range(0, len(indices), size):
        chunk = indices[first : first + size]
        places = [(i, look, n) for i in chunk for look in looks for n in range(len(views_of(setup, i, look)))]
        keys = [key_of(*place) for place in places]
        prompt = {key: setup.val_prompts[setup.val.ids[place[0]]] for key, place in zip(keys, places, strict=True)}
        seen = {key: latents[key] for key in keys}
        found: dict[str, Any] = {}
        for part in batches(keys, seen, size):
            contexts = setup.contexts([prompt[key] for key in part]).to(device)
            found |= zip(part, model(torch.stack([seen[key] for key in part]).to(device), contexts), strict=True)
        for i in chunk:
            yield i, assembled(setup, i, looks, found)


def assembled(setup: TrainSetup, index: int, looks: Sequence[Pass], found: Mapping[str, Any]) -> Any:
    """One image's output out of what the head made of its windows."""
    size, task = setup.scored_size(index), setup.task
    if task.probabilities is None:
        return [task.resize(found[key_of(index, looks[0], 0)], setup.evaluated_size(index), size)]
    wholes = []
    for look in looks:
        boxes = views_of(setup, index, look)
        parts = [found[key_of(index, look, number)] for number in range(len(boxes))]
        whole = assemble(parts, boxes, setup.evaluated_size(index, look.factor), setup.multiple, task.upsample)
        whole = bilinear(whole, size)
        wholes.append(whole.flip(-1) if look.mirrored else whole)
    # One pass is taken as it is: shares would only round what they do not reorder.
    return wholes[0] if len(wholes) == 1 else torch.stack([task.probabilities(whole) for whole in wholes]).mean(0)


def truth(setup: TrainSetup, index: int) -> Any:
    """A validation image's ground truth at the size that is scored, as a batch of one."""
    sample, size = setup.val[index], setup.scored_size(index)
    return batch_targets([setup.task.resize(setup.task.target(sample), sample.image.shape[:2], size)])


@torch.no_grad()
def evaluate(
    model: torch.nn.Module,
    setup: TrainSetup,
    latents: Mapping[str, Tensor],
    device: torch.device,
    world: ProcessGroup,
) -> Metrics:
    """The score over the whole validation split; with several workers each scores its share and the counts are summed."""
    model.eval()
    metrics = setup.task.metrics(setup.val.classes)
    indices = range(world.rank, len(setup.val), world.size)
    for index, found in predictions(model, setup, latents, indices, device):
        metrics.accumulate(found, truth(setup, index))
    metrics.reduce()
    model.train()
    return metrics


def image_lines(setup: TrainSetup, score: Metrics) -> Iterator[dict[str, Any]]:
    """What the score of the whole split says of each validation image, its prompt beside it, in JSON's types."""
    prompts = setup.val_prompts
    for image_id, own in zip(setup.val.ids, score.images, strict=True):
        fit = prompts.fits[image_id]
        yield {
            "id": image_id,
            "prompt": as_text(prompts[image_id]),
            "precision": fit.precision,
            "recall": fit.recall,
            **own,
        }
