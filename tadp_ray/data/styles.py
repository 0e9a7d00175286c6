"""The styles of the pocket world: photo, three that the pocket model was pretrained on too, and two that it has never seen.

The pretraining has captions that name the first four, and never sees the families of drawings of the last two.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from tadp_ray.config.vocabulary import Style
from tadp_ray.data.drawings import PERMISSIVE


def photo(picture: np.ndarray, instances: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the picture unchanged."""
    return picture


def night(picture: np.ndarray, instances: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Darken, desaturate and tint blue, with sensor noise."""
    grey = picture.mean(axis=2, keepdims=True)
    dim = (0.55 * picture + 0.45 * grey) * np.array((0.20, 0.25, 0.40)) + np.array((0.01, 0.015, 0.05))
    return dim + 0.035 * rng.standard_normal(picture.shape)


def watercolor(picture: np.ndarray, instances: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw pale washes on grained paper: colours run over the outlines, and pigment gathers along them."""
    shift = rng.integers(-2, 3, 2)
    wash = picture
    for _ in range(2):
        wash = (np.roll(wash, 1, 0) + np.roll(wash, -1, 0) + np.roll(wash, 1, 1) + np.roll(wash, -1, 1)) / 4
    wash = np.roll(wash, shift, (0, 1))
    blot = rng.uniform(0.35, 0.75, (8, 8)).repeat(-(-picture.shape[0] // 8), 0).repeat(-(-picture.shape[1] // 8), 1)
    blot = blot[: picture.shape[0], : picture.shape[1], None]
    paper = np.array((0.97, 0.95, 0.88)) + 0.03 * rng.standard_normal(picture.shape[:2])[..., None]
    return blot * wash**0.8 + (1 - blot) * paper - 0.18 * edges(instances)[..., None]


def comic(picture: np.ndarray, instances: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a few flat colours of another palette, black outlines and halftone dots."""
    turned = picture[..., [1, 2, 0]]
    flat = np.clip((np.floor(3.5 * turned) + 0.3) / 3, 0, 1)
    rows, columns = np.indices(picture.shape[:2])
    dots = ((rows % 4 < 2) & (columns % 4 < 2))[..., None]
    return np.where(edges(instances)[..., None], 0.02, np.where(dots, flat * 0.75, flat))


@dataclass(frozen=True)
class SceneStyle:
    """How scenes look: who drew the things, what is done to the picture, and what captions call it."""

    filter: Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray] = photo
    """A function of a picture (H, W, 3) in [0, 1], the instance map (H, W) with 0 for no instance, and a generator."""
    families: tuple[str, ...] = PERMISSIVE
    work: str | None = None
    """The words for it in the captions of the pretraining, e.g. "night photo"; None: the pretraining has not seen it."""


STYLES: Mapping[Style, SceneStyle] = {
    "photo": SceneStyle(work="photo"),
    "night": SceneStyle(night, work="night photo"),
    "watercolor": SceneStyle(watercolor, work="watercolor"),
    "comic": SceneStyle(comic, work="comic"),
    "sticker": SceneStyle(families=("twemoji",)),
    "sketch": SceneStyle(families=("openmoji",)),
}


def edges(labels: np.ndarray) -> np.ndarray:
    """Return where a label map changes to the right or below, bool (H, W)."""
    right, below = np.roll(labels, -1, 1) != labels, np.roll(labels, -1, 0) != labels
    right[:, -1], below[-1] = False, False
    return right | below
