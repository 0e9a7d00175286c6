"""Evaluates a model on a validation split: whole images or sliding windows, at several sizes, optionally mirrored."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from tadp_ray.captions.prompts import as_text, parts
from tadp_ray.data.loader import batch_targets
from tadp_ray.data.sample import annotation
from tadp_ray.tasks.base import Metrics, bilinear
from tadp_ray.training.distributed import ProcessGroup
from tadp_ray.training.model import TADP
from tadp_ray.training.precision import autocast
from tadp_ray.training.rng import view_noise
from tadp_ray.training.setup import TrainSetup
from tadp_ray.training.transfer import prefetched, to_device
from tadp_ray.training.windows import Pass, assemble, batches, embedding_key, key_of, passes, views_of


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
    task = setup.task
    if task.probabilities is None:
        return [task.resize(found[key_of(index, scans[0], 0)], setup.evaluated_size(index), setup.scored_size(index))]
    first, *others = scans
    if not others:
        # Its logits: probabilities have the same order, but are rounded.
        return whole_output(setup, index, first, found)
    # Added one by one, since a large photograph's maps of 150 classes take gigabytes each.
    total = task.probabilities(whole_output(setup, index, first, found))
    for scan in others:
        total += task.probabilities(whole_output(setup, index, scan, found))
    return total / len(scans)


def whole_output(setup: TrainSetup, index: int, scan: Pass, found: Mapping[str, Any]) -> Tensor:
    """Return an image's output of one pass at the scored size, (1, C, H, W)."""
    boxes = views_of(setup, index, scan)
    parts = [found[key_of(index, scan, number)] for number in range(len(boxes))]
    whole = assemble(parts, boxes, setup.evaluated_size(index, scan.factor), setup.multiple, setup.task.upsample)
    whole = bilinear(whole, setup.scored_size(index))
    return whole.flip(-1) if scan.mirrored else whole


def scored_image(setup: TrainSetup, index: int) -> np.ndarray:
    """Return the pixels of a validation image at the scored size, uint8 (H, W, 3)."""
    image, size = setup.val[index].image, setup.scored_size(index)
    return image if image.shape[:2] == size else cv2.resize(image, size[::-1])


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
    # A GPU computes the next batch while this one is scored on the CPU.
    found = prefetched(predictions(model, setup, latents, indices, device), device, ahead=size)
    for (_, prediction), target in zip(found, targets, strict=True):
        metrics.accumulate(prediction, target)
    metrics.reduce()
    model.train()
    return metrics


def per_image_records(setup: TrainSetup, score: Metrics) -> Iterator[dict[str, Any]]:
    """Yield the prompt, what the text encoder reads of it if it is truncated, and the metrics of each image, as JSON types."""
    prompts = setup.val_prompts
    for image_id, metrics in zip(setup.val.ids, score.images, strict=True):
        fit, prompt = prompts.fits[image_id], as_text(prompts[image_id])
        read = as_text(tuple(map(prompts.read, parts(prompts[image_id]))))
        yield {
            "id": image_id,
            "prompt": prompt,
            **({"read": read} if read != prompt else {}),
            "precision": fit.precision,
            "recall": fit.recall,
            **metrics,
        }
