"""Latents of images, encoded once per sweep and read from disk by all cells and workers."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import cv2
import torch
from torch import Tensor

from tadp_ray.backbones.base import Posterior
from tadp_ray.config.cell import LOCATIONS
from tadp_ray.config.fingerprint import changed, sha256_of
from tadp_ray.data.pixels import Pixels, channels_first, normalized, stretching
from tadp_ray.files import locked
from tadp_ray.layout import LATENTS
from tadp_ray.training import checkpoint
from tadp_ray.training.distributed import ProcessGroup
from tadp_ray.training.model import TADP
from tadp_ray.training.precision import autocast
from tadp_ray.training.rng import image_generator
from tadp_ray.training.setup import TrainSetup, encoder_key
from tadp_ray.training.transfer import prefetched, to_device
from tadp_ray.training.windows import batches, evaluation_views

Encode = Callable[[Tensor], Posterior]

PER_FILE = 64
"""Images per file of latents; an interruption loses no more than these."""


def evaluation_latents(
    digests: Mapping[str, str], setup: TrainSetup, model: TADP, device: torch.device, world: ProcessGroup
) -> Mapping[str, Tensor]:
    """Return the latents of all evaluation views by their keys.

    The posterior is sampled with noise that depends only on the image and the view, so all cells are scored on the same
    latents.
    """
    make = lambda indices: view_latents(setup, model, device, indices)
    return shared_tensors(digests, setup, device, world, evaluation_depends(digests, setup), len(setup.val), make)


def evaluation_depends(digests: Mapping[str, str], setup: TrainSetup) -> list[Any]:
    """Return what all evaluation views depend on, and the precision in which they are encoded."""
    recipe = setup.recipe
    return [
        digests["val"],
        # Which the hash of a plug-in's data set may leave out.
        changed(recipe.data, without=LOCATIONS["data"]),
        recipe.augment.resize,
        recipe.augment.stretch and [recipe.augment.stretch, stretching(setup.task.truth)],
        {**recipe.evaluation.model_dump(exclude={"captions"}), "interval": 0, "multi_scale": ()},
        recipe.schedule.precision,
    ]


@torch.no_grad()
def view_latents(setup: TrainSetup, model: TADP, device: torch.device, indices: Sequence[int]) -> dict[str, Tensor]:
    """Return the latents of all windows of all passes over the given validation images by their keys."""
    schedule, latents = setup.recipe.schedule, {}
    # On a CPU one by one: a batch gains nothing there, and the last digits depend on its size.
    size = schedule.images_per_pass if device.type == "cuda" else 1
    views = batches(evaluation_views(setup, indices), size, lambda view: view.pixels.shape)
    for batch in prefetched(views, device):
        pixels = torch.stack([view.pixels for view in batch])
        shape = (1, *model.backbone.latent_shape(pixels))
        noise = [torch.randn(shape, generator=image_generator(view.image_id, view.number)) for view in batch]
        with autocast(device, schedule.precision):
            posterior = model.backbone.encode_image(to_device(pixels, device))
        encoded = posterior.sample(to_device(torch.cat(noise), device)).float().cpu()
        latents |= zip([view.key for view in batch], encoded, strict=True)
    return latents


def training_latents(
    digests: Mapping[str, str], setup: TrainSetup, model: TADP, device: torch.device, world: ProcessGroup
) -> "ViewLatents":
    """Return the encoder of training views. It knows all of them if an image has only two, itself and its mirror image.

    They are encoded beforehand only if the training draws more views than there are.
    """
    recipe, pixels, sides = setup.recipe, setup.recipe.model.pixel_normalization, mirrored_views(setup)
    encode: Encode = model.backbone.encode_image
    if recipe.compute.compile:
        encode = torch.compile(encode)
    if not sides:
        return ViewLatents(encode, pixels, {})

    @torch.no_grad()
    def make(indices: Sequence[int]) -> dict[str, Tensor]:
        latents = {}
        for view in sided_views(setup, indices, sides):
            with autocast(device, recipe.schedule.precision):
                posterior = model.backbone.encode_image(normalized(view[None].to(device), pixels))
            latents[content_key(view)] = torch.cat([posterior.mean, posterior.std]).cpu()
        return latents

    depends = [digests["train"], sides, recipe.schedule.precision]
    known = shared_tensors(digests, setup, device, world, depends, len(setup.train), make)
    return ViewLatents(encode, pixels, dict(known))


def mirrored_views(setup: TrainSetup) -> list[int]:
    """Return the steps along an image's rows, 1 and -1, that make its views, if these are worth encoding beforehand.

    Empty: views are of other kinds, or the training draws fewer than there are.
    """
    augment, schedule = setup.recipe.augment, setup.recipe.schedule
    sides = [step for step, drawn in ((1, augment.flip < 1), (-1, augment.flip > 0)) if drawn]
    enough = schedule.iterations * schedule.batch_size >= len(setup.train) * len(sides)
    return sides if augment.only_flips and enough else []


def sided_views(setup: TrainSetup, indices: Sequence[int], sides: Sequence[int]) -> Iterator[Tensor]:
    """Yield the views uint8 (3, H, W) of training images, one for each of the `sides` from `mirrored_views`."""
    for index in indices:
        image = setup.train[index].image
        yield from (channels_first(image[:, ::step]) for step in sides)


class ViewLatents:
    """Encodes training views, or looks them up by their content.

    Args:
        encode: a backbone's `encode_image`, as it is or compiled.
        pixels: how it normalizes pixels.
        known: mean and standard deviation (2, C, h, w) of the latents of views by `content_key`.
    """

    def __init__(self, encode: Encode, pixels: Pixels, known: Mapping[str, Tensor]) -> None:
        self._encode, self._pixels, self._known = encode, pixels, known

    def __call__(self, images: Tensor, device: torch.device) -> Posterior:
        """Return the distribution of the latents of views, uint8 (B, 3, H, W) on the CPU."""
        keys = [content_key(view) for view in images] if self._known else []
        if keys and all(key in self._known for key in keys):
            mean, std = to_device(torch.stack([self._known[key] for key in keys], dim=1), device)
            return Posterior(mean, std)
        # Pixels are normalized on the device: four times fewer bytes are copied.
        return self._encode(normalized(to_device(images, device), self._pixels))


def content_key(view: Tensor) -> str:
    """Return a hash of the pixels of a view, uint8 (3, H, W)."""
    return hashlib.blake2b(view.contiguous().numpy().tobytes(), digest_size=16).hexdigest()


def shared_tensors(
    digests: Mapping[str, str],
    setup: TrainSetup,
    device: torch.device,
    world: ProcessGroup,
    depends: Sequence[Any],
    images: int,
    make: Callable[[Sequence[int]], dict[str, Tensor]],
) -> Mapping[str, Tensor]:
    """Return the tensors of files that cells share; the first cell to need one makes it, and its processes share the files out.

    Args:
        digests: content hashes of the cell.
        setup: of the cell.
        device: of this process.
        world: the processes that train the cell.
        depends: what the tensors depend on beside the weights, the encoding of images and the device.
        images: number of images.
        make: returns the tensors of some images by their indices.
    """
    recipe = setup.recipe
    key = sha256_of(
        [
            digests["weights"],
            recipe.model.encoding_of_images,
            recipe.model.pixel_normalization,
            # Views are padded to multiples of this side.
            setup.multiple,
            setup.seed if setup.seeded else None,
            *depends,
            # Which cuts and resizes views: the one that is loaded, and several packages hold it.
            cv2.__version__,
            *encoder_key(recipe, device),
        ]
    )
    folder = recipe.compute.folder / LATENTS / key[:16]
    folder.mkdir(parents=True, exist_ok=True)
    parts = [range(first, min(first + PER_FILE, images)) for first in range(0, images, PER_FILE)]

    def file_of(part: int) -> checkpoint.TensorFile:
        path = folder / f"{part:05}.safetensors"
        with locked(path.with_suffix(".lock"), patience=3600):
            return checkpoint.cached(path, {"latents": key}, lambda: (make(parts[part]), {}))

    own = {part: file_of(part) for part in range(world.rank, len(parts), world.size)}
    world.barrier()
    return checkpoint.TensorFiles(own[part] if part in own else file_of(part) for part in range(len(parts)))
