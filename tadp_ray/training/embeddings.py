"""What the frozen image encoders of a context say about views. As for latents, all cells read from disk what one has encoded.

An embedding is of the view that the backbone sees: a crop, a mirror image, a window. It is computed on the device, in the
recipe's precision.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tadp_ray.conditioning.base import ImageEncoder
from tadp_ray.conditioning.sources import source_of
from tadp_ray.data.pixels import unit_range
from tadp_ray.training.distributed import ProcessGroup
from tadp_ray.training.latents import content_key, evaluation_depends, mirrored_views, shared_tensors, sided_views
from tadp_ray.training.precision import autocast
from tadp_ray.training.setup import TrainSetup
from tadp_ray.training.transfer import prefetched, to_device
from tadp_ray.training.windows import batches, embedding_key, evaluation_views


def evaluation_embeddings(
    digests: Mapping[str, str], setup: TrainSetup, device: torch.device, world: ProcessGroup
) -> dict[str, Tensor]:
    """Return the embeddings (E,) of all evaluation views by `embedding_key`; empty if no source reads images."""
    depends = evaluation_depends(digests, setup)
    make = lambda encoder, kind, indices: one_encoder(encoder, kind, setup, device, indices)
    return _of_every_source(digests, setup, device, world, depends, len(setup.val), make)


def view_embeddings(setup: TrainSetup, device: torch.device, indices: Sequence[int]) -> dict[str, Tensor]:
    """Return the embeddings (E,) of all windows of all passes over the given validation images by `embedding_key`."""
    found: dict[str, Tensor] = {}
    for source, encoder in zip(setup.recipe.model.context.readers_of_images, setup.encoders, strict=True):
        found |= one_encoder(encoder, source.kind, setup, device, indices)
    return found


def one_encoder(
    encoder: ImageEncoder, kind: str, setup: TrainSetup, device: torch.device, indices: Sequence[int]
) -> dict[str, Tensor]:
    """Return what one encoder says about all windows of all passes over the given validation images."""
    recipe, found = setup.recipe, {}
    # On a CPU one by one: the last digits depend on the size of a batch.
    size = recipe.schedule.images_per_pass if device.type == "cuda" else 1
    views = batches(evaluation_views(setup, indices), size, lambda view: view.pixels.shape)
    for batch in prefetched(views, device):
        pixels = to_device(torch.stack([view.pixels for view in batch]), device)
        with autocast(device, recipe.schedule.precision):
            embedded = encoder(unit_range(pixels, recipe.model.pixel_normalization))
        found |= zip([embedding_key(view.key, kind) for view in batch], embedded.float().cpu(), strict=True)
    return found


def training_embeddings(
    digests: Mapping[str, str], setup: TrainSetup, device: torch.device, world: ProcessGroup
) -> "ViewEmbeddings":
    """Return what embeds training views. It knows all of them if an image has only two, itself and its mirror image."""
    recipe, sides = setup.recipe, mirrored_views(setup)
    if not sides or not setup.encoders:
        return ViewEmbeddings(setup.encoders, {})

    def make(encoder: ImageEncoder, kind: str, indices: Sequence[int]) -> dict[str, Tensor]:
        found = {}
        for view in sided_views(setup, indices, sides):
            with autocast(device, recipe.schedule.precision):
                (embedded,) = encoder(view[None].to(device).float() / 255)
            found[embedding_key(content_key(view), kind)] = embedded.float().cpu()
        return found

    depends = [digests["train"], sides, recipe.schedule.precision]
    known = _of_every_source(digests, setup, device, world, depends, len(setup.train), make)
    return ViewEmbeddings(setup.encoders, known, [source.kind for source in recipe.model.context.readers_of_images])


class ViewEmbeddings:
    """Embeds training views, or looks them up by their content.

    Args:
        encoders: the image encoder of each source that reads images.
        known: embeddings (E,) of views by `embedding_key` of their `content_key`.
        kinds: the kinds of the sources, where embeddings are known.
    """

    def __init__(
        self, encoders: Sequence[ImageEncoder], known: Mapping[str, Tensor], kinds: Sequence[str] = ()
    ) -> None:
        self._encoders, self._known, self._kinds = encoders, known, kinds

    def __call__(self, images: Tensor, device: torch.device) -> list[Tensor]:
        """Return the embeddings (B, E) of each source, of views uint8 (B, 3, H, W) on the CPU."""
        if not self._encoders:
            return []
        contents = [content_key(view) for view in images] if self._kinds else []
        keys = [[embedding_key(content, kind) for content in contents] for kind in self._kinds]
        if keys and all(key in self._known for each in keys for key in each):
            return [to_device(torch.stack([self._known[key] for key in each]), device) for each in keys]
        pixels = to_device(images, device).float() / 255
        return [encoder(pixels) for encoder in self._encoders]


def _of_every_source(
    digests: Mapping[str, str],
    setup: TrainSetup,
    device: torch.device,
    world: ProcessGroup,
    depends: Sequence[Any],
    images: int,
    make: Callable[[ImageEncoder, str, Sequence[int]], dict[str, Tensor]],
) -> dict[str, Tensor]:
    """Return the shared embeddings of every source that reads images; arguments as for `shared_tensors`."""
    found: dict[str, Tensor] = {}
    for source, encoder in zip(setup.recipe.model.context.readers_of_images, setup.encoders, strict=True):
        # The keys of its trained part are among them: another number of vectors encodes once more.
        own = [source.model_dump(mode="json", exclude={"encoder"}), source_of(source).digests(source)]
        encode = lambda indices, encoder=encoder, kind=source.kind: make(encoder, kind, indices)
        found |= shared_tensors(digests, setup, device, world, [*depends, own], images, encode)
    return found
