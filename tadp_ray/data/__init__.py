"""Data sets as samples: an image and, as far as a set has them, label map, depth and boxes."""

from functools import lru_cache

from tadp_ray.config.data import FolderData, PublishedData, ScenesData
from tadp_ray.data import folder
from tadp_ray.data.ade20k import ADE20K
from tadp_ray.data.art import COMIC2K, WATERCOLOR2K
from tadp_ray.data.cityscapes import CITYSCAPES, DARK_ZURICH, NIGHTTIME_DRIVING
from tadp_ray.data.files import FileDataset, PublishedSet, first_few
from tadp_ray.data.nyuv2 import NYUV2
from tadp_ray.data.pascal import PASCAL_DETECTION, PASCAL_SEGMENTATION
from tadp_ray.data.sample import Dataset, Split
from tadp_ray.data.scenes import CLASSES, Scenes
from tadp_ray.errors import UserError

PUBLISHED: dict[str, PublishedSet] = {
    "ade20k": ADE20K,
    "pascal_segmentation": PASCAL_SEGMENTATION,
    "pascal_detection": PASCAL_DETECTION,
    "nyuv2": NYUV2,
    "cityscapes": CITYSCAPES,
    "dark_zurich": DARK_ZURICH,
    "nighttime_driving": NIGHTTIME_DRIVING,
    "watercolor2k": WATERCOLOR2K,
    "comic2k": COMIC2K,
}
"""The paper's data sets by the names that recipes give them."""


@lru_cache(maxsize=8)
def open_dataset(data: ScenesData | FolderData | PublishedData, split: Split) -> Dataset:
    """One split of the data set that a recipe names; opened once per process, since cells share it.

    A set with a target is trained on itself and scored on the target.

    Raises:
        UserError: the data are not where the recipe says, or do not fit together.
    """
    if isinstance(data, ScenesData):
        if split == "train":
            return Scenes("train", data.train, seed=data.seed, size=data.size, style=data.style)
        return Scenes(data.eval_split, data.val, seed=data.seed, size=data.size, style=data.target_domain or data.style)
    if isinstance(data, FolderData):
        return FileDataset(folder.layout(data, split))
    if data.target_domain is None or split == "train":
        return FileDataset(PUBLISHED[data.kind].layout(data.root, split))
    learned = PUBLISHED[data.kind].classes
    fitting = [kind for kind, known in PUBLISHED.items() if known.classes == learned and "train" not in known.images]
    if data.target_domain.kind not in fitting:
        raise UserError(
            f"data.target_domain.kind={data.target_domain.kind}: its classes are not those that a model of {data.kind} learns; "
            f"targets that fit: {', '.join(fitting) or 'none'}"
        )
    return FileDataset(PUBLISHED[data.target_domain.kind].layout(data.target_domain.root, split))


def class_names(data: ScenesData | FolderData | PublishedData) -> tuple[str, ...]:
    """The classes of the data set that a recipe names, which are known without its files."""
    if isinstance(data, ScenesData):
        return CLASSES
    return data.classes if isinstance(data, FolderData) else PUBLISHED[data.kind].classes


def remarks(data: ScenesData | FolderData | PublishedData) -> list[str]:
    """What is to be known of a data set in files before it costs any compute, though it may be meant: one line each.

    Classes that no training image shows, as no model learns them; label maps that belong to no image of either split.
    """
    if isinstance(data, ScenesData) or data.kind == "nyuv2":
        # Scenes show every class in a few hundred; rooms are no classes to be learned.
        return []
    train, val = (open_dataset(data, split) for split in ("train", "val"))
    lines = []
    if absent := train.absent():
        lines.append(
            f"data.train: no image shows {first_few(absent, 10)} ({len(absent)} of {len(train.classes)} classes), so no model "
            "learns them"
        )
    if alone := sorted(map(str, {*train.unpaired, *val.unpaired} - train.files - val.files)):
        lines.append(f"data: {len(alone)} label maps belong to no image: {first_few(alone, 3)}")
    return lines
