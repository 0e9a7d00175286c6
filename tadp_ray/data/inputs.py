"""Finds the images and label maps of commands, by a glob or by a published data set."""

import glob
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from PIL import Image

from tadp_ray.data.check import find
from tadp_ray.data.datasets import published_datasets
from tadp_ray.data.files import Layout, first_few, guide
from tadp_ray.data.images import class_table, read_mask
from tadp_ray.data.names import distinct, find_files, ids_of
from tadp_ray.errors import UserError
from tadp_ray.wording import pluralized


def by_id(pattern: str, suffix: str = "", keep: Callable[[Path], bool] = lambda _: True) -> dict[str, Path]:
    """Return the files of a glob by id, in alphabetical order: those for which `keep` is true and whose names end in `suffix`.

    The id is the file's stem without `suffix`. If stems repeat, it is the path below the glob's fixed folders, e.g. chur/0000,
    as in a folder data set.

    Raises:
        UserError: there are no files, or two have the same id.
    """
    found = distinct((each for each in find_files(pattern) if keep(each.path)), suffix)
    if not found:
        behind = f" with {suffix} behind its name" if suffix else ""
        raise UserError(f"{pattern}: no file{behind} matches this glob; put it in quotes, so that it arrives as it is")
    ids = ids_of(found)
    return {ids[key]: path.absolute() for key, path in found.items()}


def layouts(kind: str, root: Path, split: str | None) -> list[Layout]:
    """Return one split of a published data set, or all of them.

    Raises:
        UserError: there is no such data set or split, or its files are missing.
    """
    dataset = find(kind)
    if split is not None and split not in dataset.images:
        raise UserError(f"--split {split}: {kind} has {' and '.join(dataset.images)}")
    return [dataset.layout(root, each) for each in ([split] if split else dataset.images)]


def photographs(kind: str, root: Path, split: str | None) -> dict[str, Path]:
    """Return the image files of a published data set by sample id."""
    return {image_id: file for layout in layouts(kind, root, split) for image_id, file in layout.images.items()}


def find_photographs(data: str, root: Path | None = None, split: str | None = None) -> dict[str, Path]:
    """Return image files by the ids of captions: of a published data set below `root`, a folder or a glob.

    Without `split`, all published splits are returned, since a recipe has one caption store.

    Raises:
        UserError: there are no files, one is missing, or two have the same id.
    """
    if root is None and data in published_datasets():
        raise UserError(f"{data}: name the folder that holds it with --root; {guide(data)}")
    if root is None and split is not None:
        raise UserError(f"--split {split}: only a published data set with --root has splits; {data} is files")
    if root is None and Path(data).is_dir():
        endings = Image.registered_extensions()
        return by_id(f"{glob.escape(data)}/*", keep=lambda file: file.suffix.lower() in endings)
    files = by_id(data) if root is None else photographs(data, root, split)
    if missing := [str(file) for file in files.values() if not file.is_file()]:
        raise UserError(f"{data}: {pluralized(len(missing), 'images')} missing: {first_few(missing)}; {guide(data)}")
    return files


def names_in_masks(
    masks: dict[str, Path], classes: Sequence[str], ignore: Sequence[int], reduce_zero_label: bool
) -> dict[str, tuple[str, ...]]:
    """Return the names of the classes in each label map, in class order.

    Args:
        masks: label maps by image id.
        classes: names in label order.
        ignore: values to ignore.
        reduce_zero_label: label k is class k-1, and 0 is ignored (ADE20K's convention).

    Raises:
        UserError: a file cannot be read, or contains a value that is not a class.
    """
    otherwise = (
        f"is beyond the {len(classes)} names of --classes; add its name, or leave the value out with --ignore "
        "(then --ignore 255 has to be said as well)"
    )
    read = partial(read_mask, table=class_table(len(classes), ignore, reduce_zero_label), otherwise=otherwise)
    return _names(Layout(tuple(classes), images={}, truths=masks, read=read, rules=()))


def names_in_published(kind: str, root: Path, split: str | None) -> dict[str, tuple[str, ...]]:
    """Return the names of the classes in each image of a published data set, in class order, without reading the images.

    Raises:
        UserError: see `layouts`; or a file cannot be read.
    """
    names: dict[str, tuple[str, ...]] = {}
    for layout in layouts(kind, root, split):
        names |= _names(layout)
    return names


def _names(layout: Layout) -> dict[str, tuple[str, ...]]:
    def names(image_id: str) -> tuple[str, ...]:
        return tuple(layout.classes[label] for label in layout.present(layout.annotation(image_id)))

    with ThreadPoolExecutor() as pool:
        return dict(zip(layout.truths, pool.map(names, layout.truths), strict=True))
