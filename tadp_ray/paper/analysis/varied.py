"""The pictures that Figure S1 varies, what they show, and what the row of captions tells: checked before any compute."""

from dataclasses import dataclass

import numpy as np

from tadp_ray.backbones.stable_diffusion.load import Diffusion
from tadp_ray.captions.describe import plain_sentence
from tadp_ray.captions.store import read_store
from tadp_ray.config.analysis import Variation
from tadp_ray.config.errors import nearest
from tadp_ray.config.schema import Recipe
from tadp_ray.data.datasets import class_names
from tadp_ray.data.images import read_image
from tadp_ray.data.sample import Dataset
from tadp_ray.data.scenes import Scenes
from tadp_ray.errors import UserError
from tadp_ray.paper.analysis.attention import fitted
from tadp_ray.paper.analysis.shown import check_names, seen, shown


@dataclass(frozen=True)
class Varied:
    """A picture to vary."""

    image: np.ndarray
    """uint8 (H, W, 3), at a size that the model is used to."""
    shows: frozenset[str]
    """Class names."""
    caption: str
    """What the row of captions tells of it."""


def pictures_to_vary(config: Variation, recipe: Recipe, seed: int, diffusion: Diffusion) -> list[Varied]:
    """The pictures that are named, or the data's first ones.

    Raises:
        UserError: as `check_pictures`; or a file cannot be read as a picture.
    """
    captions = captions_of(config)
    if config.pictures:
        found = []
        for own in config.pictures:
            image = fitted(read_image(own.path), diffusion.side, diffusion.multiple)
            said = captions.get(own.path.stem) or plain_sentence("", own.shows)
            found.append(Varied(image, frozenset(own.shows), config.caption or said))
        return found
    dataset = shown(recipe, seed, config.images)
    found = []
    for index in indices(config, dataset):
        image, things = seen(dataset, index, diffusion)
        said = captions.get(dataset.ids[index]) or described(dataset, index)
        found.append(Varied(image, frozenset(thing.name for thing in things), config.caption or said))
    return found


def check_pictures(config: Variation, recipe: Recipe, seed: int) -> None:
    """Refuse pictures, ids and captions that are not there.

    Raises:
        UserError: naming the key, what stands there, and the nearest that is known.
    """
    if config.pictures:
        for own in config.pictures:
            if not own.path.is_file():
                raise UserError(f"look.pictures: {own.path}: there is no such file")
            check_names("look.pictures.shows", own.shows, class_names(recipe.data))
        named = [own.path.stem for own in config.pictures]
    else:
        dataset = shown(recipe, seed, config.images)
        named = [dataset.ids[index] for index in indices(config, dataset)]
    if config.caption_store is not None:
        read_store(config.caption_store).check(named)


def captions_of(config: Variation) -> dict[str, str]:
    """The first caption of every image of the store, none without a store."""
    if config.caption_store is None:
        return {}
    return {name: texts[0] for name, texts in read_store(config.caption_store).captions.items()}


def indices(config: Variation, dataset: Dataset) -> list[int]:
    """Places of the pictures within the data set.

    Raises:
        UserError: an id is not there.
    """
    places = {name: index for index, name in enumerate(dataset.ids)}
    for name in config.ids:
        if name not in places:
            near = nearest(name, dataset.ids if len(places) < 20 else [*dataset.ids[:3], "..."])
            raise UserError(f"look.ids: {name!r} is none of the {len(places)} validation images; {near}")
    return [places[name] for name in config.ids] or list(range(min(len(dataset), config.images)))


def described(dataset: Dataset, index: int) -> str:
    """A sentence of what a picture shows, no more and no less."""
    if isinstance(dataset, Scenes):
        return dataset.caption(index)
    return plain_sentence(dataset.ids[index], dataset.present(index))
