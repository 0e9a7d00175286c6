"""The images of analyses of pretrained models: scenes in the style of pretraining, or a data set's validation images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from tadp_ray.backbones.latent.diffusion import LatentDiffusion
from tadp_ray.config.pretraining import HELD_OUT_SEED
from tadp_ray.config.recipe import Recipe
from tadp_ray.config.vocabulary import BACKGROUND
from tadp_ray.data.datasets import open_dataset
from tadp_ray.data.sample import IGNORE, Dataset, Sample
from tadp_ray.data.scenes import CLASSES, LOOK_ALIKES, Scenes
from tadp_ray.errors import UserError
from tadp_ray.paper.analysis.attention import fitted
from tadp_ray.tasks.build import task_of

HELD_OUT = 2 * HELD_OUT_SEED
"""Offset of the scenes' seed; no pretraining uses these seeds."""


@dataclass(frozen=True)
class ShownObject:
    """An object in an image."""

    name: str
    region: np.ndarray
    """bool (H, W): visible pixels."""


def analysis_images(recipe: Recipe, seed: int, count: int) -> Dataset:
    """Return held-out scenes in the style of pretraining, or all validation images of the recipe.

    Raises:
        UserError: the recipe's data are missing or have no label maps.
    """
    if recipe.data.kind == "scenes":
        return Scenes("pretrain", count, HELD_OUT + seed, recipe.data.size)
    if task_of(recipe).truth != "mask":
        raise UserError(f"task: {recipe.task}: label maps are needed; name a recipe of segmentation")
    return open_dataset(recipe.data, "val", recipe.compute.folder)


def resized(dataset: Dataset, index: int, diffusion: LatentDiffusion) -> tuple[np.ndarray, list[ShownObject]]:
    """Return an image near the model's training size, and its objects, largest first.

    Objects are the instances of a scene, or the classes of a label map.
    """
    sample = dataset[index]
    image = fitted(sample.image, diffusion.side, diffusion.multiple)
    things = [
        ShownObject(name, cv2.resize(region.astype(np.uint8), image.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0)
        for name, region in regions(sample, dataset.classes)
    ]
    return image, sorted((thing for thing in things if thing.region.any()), key=lambda thing: -thing.region.sum())


def regions(sample: Sample, classes: tuple[str, ...]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the class names and pixels of a sample's objects."""
    if sample.instances is not None:
        for place, label in enumerate(sample.truth("box_classes"), 1):
            yield classes[label], sample.instances == place
        return
    mask = sample.truth("mask")
    for label in np.unique(mask):
        # The rest of a photograph is no object.
        if label != IGNORE and classes[label] != BACKGROUND:
            yield classes[label], mask == label


def look_alikes(classes: tuple[str, ...], groups: tuple[tuple[str, ...], ...]) -> dict[str, tuple[str, ...]]:
    """Return the look-alikes of each class: those of the scenes, or for photographs those of the given groups.

    Raises:
        UserError: there are no groups, or a group contains an unknown class.
    """
    if classes == CLASSES:
        return LOOK_ALIKES
    check_names("spec.groups", [name for group in groups for name in group], classes)
    return {name: tuple(other for other in group if other != name) for group in groups for name in group}


def check_names(key: str, names: Sequence[str], classes: Sequence[str]) -> None:
    """Check that there are names, and that all are classes of the data.

    Raises:
        UserError: there are no names or unknown ones; the message names the key.
    """
    if not names:
        raise UserError(f"{key}: name what looks alike; only the pocket scenes know it of themselves")
    if unknown := [name for name in names if name not in classes]:
        raise UserError(f"{key}: {unknown[0]!r} is no class of these data; they are {', '.join(classes)}")
