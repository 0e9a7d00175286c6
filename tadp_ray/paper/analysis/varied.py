"""The images that Figure S1 varies, with their classes and captions, and checks before any compute."""

from dataclasses import dataclass

import numpy as np

from tadp_ray.backbones.stable_diffusion.load import Diffusion
from tadp_ray.captions.describe import plain_sentence
from tadp_ray.captions.sources import foreground
from tadp_ray.captions.store import read_store
from tadp_ray.config.analysis import Variation
from tadp_ray.config.errors import nearest
from tadp_ray.config.recipe import Recipe
from tadp_ray.data.datasets import class_names
from tadp_ray.data.images import read_image
from tadp_ray.data.sample import Dataset
from tadp_ray.data.scenes import Scenes
from tadp_ray.errors import UserError
from tadp_ray.paper.analysis.attention import fitted
from tadp_ray.paper.analysis.images import analysis_images, check_names, resized


@dataclass(frozen=True)
class Varied:
    """An image to vary."""

    image: np.ndarray
    """uint8 (H, W, 3), near the model's training size."""
    shows: frozenset[str]
    """Names of the classes in the image."""
    caption: str
    """Prompt of the variations with a caption."""


def pictures_to_vary(config: Variation, recipe: Recipe, seed: int, diffusion: Diffusion) -> list[Varied]:
    """Return the images of the configuration, or the first images of the data.

    Raises:
        UserError: see `check_pictures`; or a file cannot be read as an image.
    """
    captions = captions_of(config, recipe, seed)
    if config.pictures:
        found = []
        for picture in config.pictures:
            image = fitted(read_image(picture.path), diffusion.side, diffusion.multiple)
            caption = captions.get(picture.path.stem, plain_sentence("", picture.shows))
            found.append(Varied(image, frozenset(picture.shows), config.caption or caption))
        return found
    dataset = analysis_images(recipe, seed, config.images)
    found = []
    for index in indices(config, dataset):
        image, things = resized(dataset, index, diffusion)
        name = dataset.ids[index]
        caption = captions[name] if name in captions else described(dataset, index)
        found.append(Varied(image, frozenset(thing.name for thing in things), config.caption or caption))
    return found


def check_pictures(config: Variation, recipe: Recipe, seed: int) -> None:
    """Check that all images, ids and captions exist.

    Raises:
        UserError: one is missing; the message names the key, its value and the nearest known one.
    """
    if config.pictures:
        for picture in config.pictures:
            if not picture.path.is_file():
                raise UserError(f"spec.pictures: {picture.path}: there is no such file")
            check_names("spec.pictures.shows", picture.shows, class_names(recipe.data))
    captions_of(config, recipe, seed)


def captions_of(config: Variation, recipe: Recipe, seed: int) -> dict[str, str]:
    """Return the first caption of each image to vary from the store; empty without a store.

    Raises:
        UserError: an id is unknown, an image has no caption, or captions have tags, among which there is no choice here.
    """
    if config.pictures:
        named = [picture.path.stem for picture in config.pictures]
    else:
        dataset = analysis_images(recipe, seed, config.images)
        named = [dataset.ids[index] for index in indices(config, dataset)]
    if config.caption_store is None:
        return {}
    store = read_store(config.caption_store)
    store.check(named)
    if tagged := [name for name in named if name in store.tags]:
        raise UserError(
            f"spec.caption_store={str(config.caption_store)!r}, id {tagged[0]!r}: its captions have tags, and none is chosen "
            "here; name a store with one kind of captions"
        )
    return {name: store.captions[name][0] for name in named}


def indices(config: Variation, dataset: Dataset) -> list[int]:
    """Return the indices of the images in the data set.

    Raises:
        UserError: an id is not in the data set.
    """
    places = {name: index for index, name in enumerate(dataset.ids)}
    for name in config.ids:
        if name not in places:
            near = nearest(name, dataset.ids if len(places) < 20 else [*dataset.ids[:3], "..."])
            raise UserError(f"spec.ids: {name!r} is none of the {len(places)} validation images; {near}")
    return [places[name] for name in config.ids] or list(range(min(len(dataset), config.images)))


def described(dataset: Dataset, index: int) -> str:
    """Return a sentence with exactly the classes of an image, without a background."""
    if isinstance(dataset, Scenes):
        return dataset.caption(index)
    return plain_sentence(dataset.ids[index], foreground(dataset.present(index)))
