"""Opens the data sets of recipes, which are registered in `tadp_ray.registry`."""

from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol, get_args, runtime_checkable

from tadp_ray.config.data import DataConfig, PublishedData
from tadp_ray.config.vocabulary import repeated
from tadp_ray.data import folder
from tadp_ray.data.config import FolderData, ScenesData
from tadp_ray.data.files import FileDataset, Layout, PublishedSet
from tadp_ray.data.index import Index
from tadp_ray.data.sample import Dataset, Split
from tadp_ray.data.scenes import CLASSES, THINGS, Scenes
from tadp_ray.errors import UserError
from tadp_ray.registry import DATASETS, check_interface, implementation
from tadp_ray.wording import first_few, pluralized


class Described(Protocol):
    """A registered data set; `data` is the recipe's group of keys.

    It may have an attribute `things`, the names of the classes of countable objects.
    """

    def class_names(self, data: Any) -> tuple[str, ...]:
        """Return the classes in index order, without opening files."""
        ...


class DatasetSource(Described, Protocol):
    """Opens a registered data set."""

    def open(self, data: Any, split: Split) -> Dataset:
        """Open one split.

        Raises:
            UserError: the data are not where the recipe says, or do not fit together.
        """
        ...


@runtime_checkable
class FileSource(Described, Protocol):
    """Finds the files of a registered data set in files."""

    def layout(self, data: Any, split: Split) -> Layout:
        """Return the files of one split.

        Raises:
            UserError: the files are not where the recipe says.
        """
        ...


class PocketScenes:
    """The pocket world, rendered from a seed."""

    things = THINGS

    @staticmethod
    def open(data: ScenesData, split: Split) -> Scenes:
        """Return the training scenes, or the evaluation scenes in the target's style."""
        if split == "train":
            return Scenes("train", data.train, seed=data.seed, size=data.size, style=data.style)
        return Scenes(data.eval_split, data.val, seed=data.seed, size=data.size, style=data.target_domain or data.style)

    @staticmethod
    def class_names(_: ScenesData) -> tuple[str, ...]:
        """Return the classes of the world."""
        return CLASSES


class OwnFolder:
    """Your own images with label maps, depth maps or boxes."""

    @staticmethod
    def layout(data: FolderData, split: Split) -> Layout:
        """Return the pairs that match the recipe's globs."""
        return folder.layout(data, split)

    @staticmethod
    def class_names(data: FolderData) -> tuple[str, ...]:
        """Return the classes in the recipe."""
        return data.classes


class PublishedFiles:
    """A data set in its published layout, evaluated on itself or on a target domain with the same classes."""

    @staticmethod
    def layout(data: PublishedData, split: Split) -> Layout:
        """Return the files of its own split, or the target domain's for evaluation."""
        known, target = published_datasets(), data.target_domain
        if target is None or split == "train":
            return known[data.kind].layout(data.root, split)
        learned = known[data.kind].classes
        fitting = [kind for kind, other in known.items() if other.classes == learned and DATASETS[kind].scored_only]
        if target.kind not in fitting:
            raise UserError(
                f"data.target_domain.kind={target.kind}: its classes are not those that a model of {data.kind} learns; "
                f"targets that fit: {', '.join(fitting) or 'none'}"
            )
        return known[target.kind].layout(target.root, split)

    @staticmethod
    def class_names(data: PublishedData) -> tuple[str, ...]:
        """Return the published classes."""
        return published_datasets()[data.kind].classes


def published_datasets() -> Mapping[str, PublishedSet]:
    """Return the registered data sets in published layouts by name."""
    return {name: implementation(entry.implementation) for name, entry in DATASETS.items() if not entry.config}


class Datasets:
    """A cache of opened data sets, since opening looks at every file.

    Args:
        storage: the storage folder, whose indexes of data sets in files are used and updated; None: without indexes.
    """

    def __init__(self, storage: Path | None = None) -> None:
        self.open = lru_cache(maxsize=8)(partial(open_dataset, storage=storage))


def open_dataset(data: DataConfig, split: Split, storage: Path | None = None) -> Dataset:
    """Open one split of a recipe's data set.

    A set with a target is trained on itself and scored on the target.

    Args:
        data: the recipe's group of keys.
        split: train or val.
        storage: the storage folder, such as runs/, with an index of the files, which is updated: only files that have changed
            are read. None: every file is read.

    Raises:
        UserError: there is no such split, or the data are not where the recipe says, or do not fit together.
    """
    if split not in get_args(Split):
        raise UserError(
            f"split={split!r}: a recipe's data set has the splits {' and '.join(map(repr, get_args(Split)))}"
        )
    source = source_of(data)
    if not isinstance(source, FileSource):
        opened = source.open(data, split)
        check_opened(opened, f"data set {data.kind!r}: open")
        return opened
    layout = source.layout(data, split)
    return FileDataset(layout, Index(storage, layout) if storage else None)


def check_opened(opened: Dataset, place: str) -> None:
    """Check that a data set, which may be a plug-in's, is one, and has samples with ids and sizes (UserError if not)."""
    check_interface(opened, Dataset, place)
    counts = {"ids": len(opened.ids), "sizes": len(opened.sizes), "samples": len(opened)}
    if len({*counts.values()}) > 1 or not opened.ids:
        told = ", ".join(f"{count} {name}" for name, count in counts.items())
        raise UserError(f"{place} returned {told}; expected as many of each, and one or more")
    if twice := repeated(opened.ids):
        raise UserError(f"{place} returned the id {twice[0]!r} twice; ids must differ")


def class_names(data: DataConfig) -> tuple[str, ...]:
    """Return the classes of a recipe's data set, without opening files."""
    return source_of(data).class_names(data)


def thing_names(data: DataConfig) -> tuple[str, ...]:
    """Return the classes of countable objects; empty if the data set does not tell them from stuff."""
    return getattr(source_of(data), "things", ())


def source_of(data: DataConfig) -> DatasetSource | FileSource:
    """Return what opens a recipe's data set."""
    entry = DATASETS[data.kind]
    return implementation(entry.implementation) if entry.config else PublishedFiles()


def remarks(data: DataConfig, train: Dataset, val: Dataset) -> list[str]:
    """Return warnings about a data set in files, which may be intended; one line each.

    Images of one's own that are trained and evaluated on; classes that no training image shows, as no model learns them; EXIF
    rotations; label maps, and entries of a file of boxes, that belong to no image of either split.
    """
    if not isinstance(train, FileDataset) or not isinstance(val, FileDataset):
        # Only files can be missing.
        return []
    learned, scored = train.layout, val.layout
    lines = folder.shared_images(data, learned.images, scored.images) if isinstance(data, FolderData) else []
    if absent := train.absent():
        lines.append(
            f"data.train: no image shows {first_few(absent, 10)} ({len(absent)} of {len(train.classes)} classes), so no model "
            "learns them"
        )
    if turned := sorted({str(file) for own in (train, val) for files in own.turned.values() for file in files}):
        lines.append(
            f"data: {pluralized(len(turned), 'files')} with an EXIF rotation, by which they are turned ({first_few(turned, 3)}); "
            "check that photographs and ground truth match"
        )
    paired = {*learned.truths.values(), *scored.truths.values()}
    if alone := sorted(map(str, {*learned.unpaired, *scored.unpaired} - paired)):
        lines.append(f"data: {pluralized(len(alone), 'files')} of ground truth without an image: {first_few(alone, 3)}")
    if entries := sorted({*learned.unpaired_entries, *scored.unpaired_entries}):
        lines.append(f"data: {pluralized(len(entries), 'entries')} of boxes without an image: {first_few(entries, 3)}")
    return lines
