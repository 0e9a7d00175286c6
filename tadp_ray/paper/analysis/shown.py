"""The pictures that an untrained model is shown: scenes as its pretraining saw them, or a data set's validation images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from tadp_ray.backbones.stable_diffusion.load import Diffusion
from tadp_ray.config.schema import Recipe
from tadp_ray.data.datasets import open_dataset
from tadp_ray.data.sample import IGNORE, Dataset, Sample
from tadp_ray.data.scenes import CLASSES, LOOK_ALIKES, Scenes
from tadp_ray.errors import UserError
from tadp_ray.paper.analysis.attention import fitted
from tadp_ray.tasks.registry import task_of

HELD_OUT = 2_000_000
"""Seed of the first world; no pretraining uses it."""


@dataclass(frozen=True)
class ShownObject:
    """Something in a picture."""

    name: str
    region: np.ndarray
    """bool (H, W): its visible pixels."""


def shown(recipe: Recipe, seed: int, count: int) -> Dataset:
    """Scenes with the clear colours of pretraining, of a seed of their own; or the recipe's validation images, all of them.

    Raises:
        UserError: the recipe's data have no label maps, or are not there.
    """
    if recipe.data.kind == "scenes":
        return Scenes("pretrain", count, HELD_OUT + seed, recipe.data.size)
    if task_of(recipe).truth != "mask":
        raise UserError(f"task: {recipe.task}: label maps are needed; name a recipe of segmentation")
    return open_dataset(recipe.data, "val")


def seen(dataset: Dataset, index: int, diffusion: Diffusion) -> tuple[np.ndarray, list[ShownObject]]:
    """A picture at a size that the model is used to, and what is in it, the largest first.

    A scene's things are told apart one by one; a label map knows classes alone.
    """
    sample = dataset[index]
    image = fitted(sample.image, diffusion.side, diffusion.multiple)
    things = [
        ShownObject(name, cv2.resize(region.astype(np.uint8), image.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0)
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


def look_alikes(classes: tuple[str, ...], groups: tuple[tuple[str, ...], ...]) -> dict[str, tuple[str, ...]]:
    """By class, the others that look like it: the scenes' own, or for photographs those of the groups that are given.

    Raises:
        UserError: there are no groups, or one names no class.
    """
    if classes == CLASSES:
        return LOOK_ALIKES
    check_names("look.groups", [name for group in groups for name in group], classes)
    return {name: tuple(other for other in group if other != name) for group in groups for name in group}


def check_names(key: str, names: Sequence[str], classes: Sequence[str]) -> None:
    """Refuse names that are no classes of the data, and none at all.

    Raises:
        UserError: naming the key.
    """
    if not names:
        raise UserError(f"{key}: name what looks alike; only the pocket scenes know it of themselves")
    if strange := [name for name in names if name not in classes]:
        raise UserError(f"{key}: {strange[0]!r} is no class of these data; they are {', '.join(classes)}")
