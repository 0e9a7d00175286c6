"""The pictures that an untrained model is shown: scenes as its pretraining saw them, or a data set's validation images."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from tadp_ray.analysis.attention import fitted
from tadp_ray.config.schema import Recipe
from tadp_ray.data import open_dataset
from tadp_ray.data.sample import IGNORE, Dataset, Sample
from tadp_ray.data.scenes import LOOK_ALIKES, THINGS, Scenes
from tadp_ray.models.diffusion import Diffusion

HELD_OUT = 2_000_000
"""Seed of the first world; no pretraining uses it."""


@dataclass(frozen=True)
class Thing:
    """Something in a picture."""

    name: str
    region: np.ndarray
    """bool (H, W): its visible pixels."""


def shown(recipe: Recipe, seed: int, count: int) -> Dataset:
    """Scenes with the clear colours of pretraining, of a seed of their own; or the recipe's validation images, all of them.

    Raises:
        ValueError: the recipe's data have no label maps, or are not there.
    """
    if recipe.data.kind == "scenes":
        return Scenes("pretrain", count, HELD_OUT + seed, recipe.data.size)
    if recipe.task != "segmentation":
        raise ValueError(f"task: {recipe.task}: label maps are needed; name a recipe of segmentation")
    return open_dataset(recipe.data, "val")


def seen(dataset: Dataset, index: int, diffusion: Diffusion) -> tuple[np.ndarray, list[Thing]]:
    """A picture at a size that the model is used to, and what is in it, the largest first.

    A scene's things are told apart one by one; a label map knows classes alone.
    """
    sample = dataset[index]
    image = fitted(sample.image, diffusion.side, diffusion.multiple)
    things = [
        Thing(name, cv2.resize(region.astype(np.uint8), image.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0)
        for name, region in regions(sample, dataset.classes)
    ]
    return image, sorted((thing for thing in things if thing.region.any()), key=lambda thing: -thing.region.sum())


def regions(sample: Sample, classes: tuple[str, ...]) -> Iterator[tuple[str, np.ndarray]]:
    """Names and pixels of a sample's things."""
    if sample.instances is not None:
        for place, label in enumerate(sample.box_classes, 1):
            yield classes[label], sample.instances == place
        return
    for label in np.unique(sample.mask):
        if label != IGNORE:
            yield classes[label], sample.mask == label


def look_alikes(classes: tuple[str, ...], groups: tuple[tuple[str, ...], ...] = ()) -> dict[str, tuple[str, ...]]:
    """By class, the others that look like it: of the groups that are given, or of the scenes'.

    Raises:
        ValueError: a group names no class; or there are none, and the classes are not the scenes'.
    """
    if not groups and set(THINGS) <= set(classes):
        return LOOK_ALIKES
    if not groups:
        raise ValueError("look.groups: name the classes that look alike; only the pocket scenes know theirs")
    if strange := [name for group in groups for name in group if name not in classes]:
        raise ValueError(f"look.groups: {strange[0]!r} is no class of these data; they are {', '.join(classes)}")
    return {name: tuple(other for other in group if other != name) for group in groups for name in group}
