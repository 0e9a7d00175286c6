"""Scores a model on a validation split: whole images or sliding windows, always at the image's own size."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor

from tadp_ray.config.schema import EvaluationConfig
from tadp_ray.data.transforms import to_tensor
from tadp_ray.training.distributed import World
from tadp_ray.training.study import Study

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
    """One view (3, h, w), padded at bottom and right with mid-grey to sides that the U-Net can halve."""
    top, left, height, width = box
    view = image[:, top : top + height, left : left + width]
    return F.pad(view, (0, -width % multiple, 0, -height % multiple))


def assemble(logits: Sequence[Tensor], boxes: Sequence[Box], size: tuple[int, int], multiple: int) -> Tensor:
    """Mean logits (1, C, H, W) of overlapping views; `logits` are (C, h, w) at the head's resolution."""
    total = logits[0].new_zeros((1, logits[0].shape[0], *size))
    count = logits[0].new_zeros((1, 1, *size))
    for view, (top, left, height, width) in zip(logits, boxes, strict=True):
        padded = (height + -height % multiple, width + -width % multiple)
        full = F.interpolate(view[None], padded, mode="bilinear", align_corners=False)[..., :height, :width]
        total[..., top : top + height, left : left + width] += full
        count[..., top : top + height, left : left + width] += 1
    return total / count


def encode_views(
    study: Study, config: EvaluationConfig, encode: Callable[[Tensor, str, int], Tensor], indices: Sequence[int]
) -> dict[str, Tensor]:
    """Latents of every view of the given images, keyed `<index>/<view>`; `encode(images, id, view)` runs the VAE."""
    latents = {}
    for index in indices:
        sample = study.val[index]
        image = to_tensor(study.resized(sample.image))
        for number, box in enumerate(view_boxes(*image.shape[1:], config)):
            latents[f"{index}/{number}"] = encode(cut(image, box, study.multiple)[None], sample.id, number)[0]
    return latents


def batches(keys: Sequence[str], latents: Mapping[str, Tensor], size: int) -> Iterator[list[str]]:
    """Keys of consecutive views of the same shape, at most `size` together."""
    for _, group in groupby(keys, key=lambda key: latents[key].shape):
        same = list(group)
        yield from (same[first : first + size] for first in range(0, len(same), size))


@torch.no_grad()
def predict_logits(
    model: torch.nn.Module, study: Study, latents: Mapping[str, Tensor], indices: Sequence[int], device: torch.device
) -> Iterator[tuple[int, Tensor]]:
    """(index, logits (1, C, H, W) at the size of the evaluated image) of each image, in order."""
    config, size = study.recipe.evaluation, study.recipe.schedule.images_per_pass
    for first in range(0, len(indices), size):
        chunk = indices[first : first + size]
        boxes = {i: view_boxes(*study.evaluated_size(i), config) for i in chunk}
        keys = [f"{i}/{number}" for i in chunk for number in range(len(boxes[i]))]
        found: dict[str, Tensor] = {}
        for part in batches(keys, latents, size):
            prompts = [study.val_prompts[study.val.ids[int(key.partition("/")[0])]] for key in part]
            output = model(torch.stack([latents[key] for key in part]).to(device), study.contexts(prompts).to(device))
            found |= dict(zip(part, output, strict=True))
        for i in chunk:
            parts = [found[f"{i}/{number}"] for number in range(len(boxes[i]))]
            yield i, assemble(parts, boxes[i], study.evaluated_size(i), study.multiple)


@torch.no_grad()
def evaluate(
    model: torch.nn.Module,
    study: Study,
    latents: Mapping[str, Tensor],
    device: torch.device,
    world: World,
) -> dict[str, float]:
    """Metrics over the whole validation split; with several workers each scores its share and the counts are summed."""
    model.eval()
    metrics = study.task.metrics(study.val.classes)
    indices = range(world.rank, len(study.val), world.size)
    for index, logits in predict_logits(model, study, latents, indices, device):
        mask = torch.from_numpy(study.val[index].mask.astype("int64"))[None]
        metrics.accumulate(study.task.predict(logits, tuple(mask.shape[1:])).cpu(), mask)
    metrics.reduce()
    model.train()
    return metrics.compute()
