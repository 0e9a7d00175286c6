"""Data sets as samples: image, label map and, where a set has them, depth and boxes."""

from functools import lru_cache

from tadp_ray.config.schema import FolderData, ScenesData
from tadp_ray.data.folder import Folder
from tadp_ray.data.sample import Dataset, Split
from tadp_ray.data.scenes import Scenes


@lru_cache(maxsize=8)
def open_dataset(data: ScenesData | FolderData, split: Split) -> Dataset:
    """One split of the data set that a recipe names; opened once per process, since cells share it.

    Raises:
        ValueError: the data are not where the recipe says, or do not fit together.
    """
    if isinstance(data, ScenesData):
        shown, count = ("train", data.train) if split == "train" else (data.scored, data.val)
        return Scenes(shown, count, seed=data.seed, size=data.size, style=data.style)
    return Folder(data, split)
