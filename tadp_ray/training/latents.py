"""Latents of images, encoded once per sweep and read from disk by all cells and workers."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tadp_ray.backbones.base import Posterior
from tadp_ray.config.fingerprint import sha256_of
from tadp_ray.data.transforms import to_tensor
from tadp_ray.files import acquire_lock
from tadp_ray.layout import LATENTS
from tadp_ray.training import checkpoint
from tadp_ray.training.distributed import ProcessGroup
from tadp_ray.training.evaluate import encode_views
from tadp_ray.training.model import TADP
from tadp_ray.training.precision import autocast
from tadp_ray.training.rng import image_generator
from tadp_ray.training.setup import TrainSetup, threads_of


def evaluation_latents(
    digests: Mapping[str, str], setup: TrainSetup, model: TADP, device: torch.device, world: ProcessGroup
) -> Mapping[str, Tensor]:
    """Return the latents of all evaluation views by their keys.

    The posterior is sampled with noise that depends only on the image and the view, so all cells are scored on the same
    latents.
    """
    recipe = setup.recipe
    depends = [
        digests["val"],
        recipe.augment.resize,
        recipe.augment.stretch,
        {**recipe.evaluation.model_dump(), "interval": 0, "multi_scale": ()},
    ]
    make = lambda: encode_views(setup, encoder(model, device), range(len(setup.val)))
    return _shared(digests, setup, device, world, depends, make)


def encoder(model: TADP, device: torch.device) -> Callable[[Tensor, str, int], Tensor]:
    """Return a function that encodes an evaluation view (1, 3, h, w); its noise is seeded by (image id, view)."""

    def encode(images: Tensor, image_id: str, view: int) -> Tensor:
        noise = torch.randn((1, *model.backbone.latent_shape(images)), generator=image_generator(image_id, view))
        return model.backbone.encode_image(images.to(device)).sample(noise.to(device)).cpu()

    return encode


def training_latents(
    digests: Mapping[str, str], setup: TrainSetup, model: TADP, device: torch.device, world: ProcessGroup
) -> "ViewLatents":
    """Return the encoder of training views. It knows all of them if an image has only two, itself and its mirror image.

    They are encoded beforehand only if the training draws more views than there are.
    """
    recipe, flip = setup.recipe, setup.recipe.augment.flip
    views = len(setup.train) * (1 + (0 < flip < 1))
    if not recipe.augment.only_flips or recipe.schedule.iterations * recipe.schedule.batch_size < views:
        return ViewLatents(model, {})
    sides = [step for step, drawn in ((1, flip < 1), (-1, flip > 0)) if drawn]

    def make() -> dict[str, Tensor]:
        latents = {}
        for index in range(len(setup.train)):
            for step in sides:
                view = to_tensor(setup.train[index].image[:, ::step], recipe.model.pixel_normalization)
                with autocast(device, recipe.schedule.precision):
                    posterior = model.backbone.encode_image(view[None].to(device))
                latents[content_key(view)] = torch.cat([posterior.mean, posterior.std]).cpu()
        return latents

    depends = [digests["train"], sides, recipe.schedule.precision]
    return ViewLatents(model, dict(_shared(digests, setup, device, world, depends, make)))


class ViewLatents:
    """Encodes training views, or looks them up by their content.

    Args:
        model: its backbone encodes.
        known: mean and standard deviation (2, C, h, w) of the latents of views by `content_key`.
    """

    def __init__(self, model: TADP, known: Mapping[str, Tensor]) -> None:
        self._model, self._known = model, known

    def __call__(self, images: Tensor, device: torch.device) -> Posterior:
        """Return the distribution of the latents of views (B, 3, H, W)."""
        keys = [content_key(view) for view in images] if self._known else []
        if keys and all(key in self._known for key in keys):
            mean, std = torch.stack([self._known[key] for key in keys], dim=1).to(device)
            return Posterior(mean, std)
        return self._model.backbone.encode_image(images.to(device))


def content_key(view: Tensor) -> str:
    """Return a hash of the pixels of a view (3, H, W)."""
    return hashlib.blake2b(view.contiguous().numpy().tobytes(), digest_size=16).hexdigest()


def _shared(
    digests: Mapping[str, str],
    setup: TrainSetup,
    device: torch.device,
    world: ProcessGroup,
    depends: Sequence[Any],
    make: Callable[[], dict[str, Tensor]],
) -> Mapping[str, Tensor]:
    """Return the tensors of a file that cells share; the first cell to need it makes it.

    `depends` is what the tensors depend on beside the weights, the encoding of images and the device.
    """
    recipe = setup.recipe
    key = sha256_of(
        [
            digests["weights"],
            recipe.model.encoding_of_images,
            recipe.model.pixel_normalization,
            *depends,
            device.type,
            *threads_of(recipe, device),
        ]
    )
    path = recipe.compute.folder / LATENTS / f"{key[:16]}.safetensors"
    if not world.is_main_process:
        world.barrier()
        return checkpoint.open_labelled(path, {"latents": key})
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = acquire_lock(path.with_suffix(".lock"), patience=3600)
    try:
        latents = checkpoint.cached(path, {"latents": key}, lambda: (make(), {}))
    finally:
        lock.release()
    world.barrier()
    return latents
