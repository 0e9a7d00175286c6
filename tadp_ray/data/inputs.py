"""Images and label maps as commands are given them: by a glob, or as a data set of the paper below its folder."""

import glob
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from tadp_ray.data.check import find
from tadp_ray.data.datasets import published_datasets
from tadp_ray.data.files import Fields, Layout, first_few, guide, shown
from tadp_ray.data.images import class_table, read_mask
from tadp_ray.data.names import distinct, find_files, ids_of
from tadp_ray.data.sample import Sample
from tadp_ray.errors import UserError
from tadp_ray.files import why_unreadable


def by_id(pattern: str, suffix: str = "", keep: Callable[[Path], bool] = lambda _: True) -> dict[str, Path]:
    """Files of a glob by id, in alphabetical order; those that are to be kept, and whose names end in `suffix`.

    The id is the file's stem without `suffix`, or where these are not all different its path below the folders that the
    glob spells out, e.g. chur/0000: as a folder data set has it.

    Raises:
        UserError: there is none, or two have one id.
    """
    found = distinct((each for each in find_files(pattern) if keep(each.path)), suffix)
    if not found:
        behind = f" with {suffix} behind its name" if suffix else ""
        raise UserError(f"{pattern}: no file{behind} matches this glob; put it in quotes, so that it arrives as it is")
    ids = ids_of(found)
    return {ids[key]: path.absolute() for key, path in found.items()}


def layouts(kind: str, root: Path, split: str | None) -> list[Layout]:
    """One split of a data set of the paper, or all of them.

    Raises:
        UserError: there is no such data set or split, or it does not lie there.
    """
    known = find(kind)
    if split is not None and split not in known.images:
        raise UserError(f"--split {split}: {kind} has {' and '.join(known.images)}")
    return [known.layout(root, each) for each in ([split] if split else known.images)]


def photographs(kind: str, root: Path, split: str | None) -> dict[str, Path]:
    """Image files of a data set of the paper by sample id."""
    return {image_id: file for layout in layouts(kind, root, split) for image_id, file in layout.images.items()}


def find_photographs(data: str, root: Path | None = None, split: str | None = None) -> dict[str, Path]:
    """Images by the ids by which trainings look captions up: of a data set of the paper below `root`, a folder or a glob.

    Without a split a data set gives all its published ones, as a recipe has one caption store.

    Raises:
        UserError: there are none, a file is missing, or two are of one id.
    """
    if root is None and data in published_datasets():
        raise UserError(f"{data}: name the folder that holds it with --root; {guide(data)}")
    if root is None and split is not None:
        raise UserError(f"--split {split}: only a data set of the paper with --root has splits; {data} is files")
    if root is None and Path(data).is_dir():
        endings = Image.registered_extensions()
        return by_id(f"{glob.escape(data)}/*", keep=lambda file: file.suffix.lower() in endings)
    files = by_id(data) if root is None else photographs(data, root, split)
    if missing := [str(file) for file in files.values() if not file.is_file()]:
        raise UserError(f"{data}: {len(missing)} image(s) are not there: {first_few(missing)}; {guide(data)}")
    return files


def names_in_masks(
    masks: dict[str, Path], classes: Sequence[str], ignore: Sequence[int], reduce_zero_label: bool
) -> dict[str, tuple[str, ...]]:
    """Names of the classes with a pixel in each label map, in class order.

    Args:
        masks: label maps by image id.
        classes: names in label order.
        ignore: values that belong to no class.
        reduce_zero_label: label k is class k-1, and 0 is no class (ADE20K's convention).

    Raises:
        UserError: a file cannot be read, or holds a value that is no class.
    """
    otherwise = (
        f"is beyond the {len(classes)} names of --classes; add its name, or leave the value out with --ignore "
        "(then --ignore 255 has to be said as well)"
    )
    read = partial(read_mask, table=class_table(len(classes), ignore, reduce_zero_label), otherwise=otherwise)
    return _names(masks, classes, read, shown)


def names_in_published(kind: str, root: Path, split: str | None) -> dict[str, tuple[str, ...]]:
    """Names of the classes that each image of a data set of the paper shows, in class order; photographs are not opened.

    Raises:
        UserError: see `layouts`; or a file cannot be read.
    """
    found: dict[str, tuple[str, ...]] = {}
    for layout in layouts(kind, root, split):
        found |= _names(layout.truths, layout.classes, layout.read, layout.present)
    return found


def _names(
    truths: dict[str, Path],
    classes: Sequence[str],
    read: Callable[[Path], Fields],
    present: Callable[[Sample], list[int]],
) -> dict[str, tuple[str, ...]]:
    no_image = np.empty((0, 0, 3), np.uint8)

    def names(item: tuple[str, Path]) -> tuple[str, ...]:
        image_id, file = item
        if why := why_unreadable(file):
            raise UserError(f"{file}: {why}; image {image_id!r} needs it")
        return tuple(classes[label] for label in present(Sample(id=image_id, image=no_image, **read(file))))

    with ThreadPoolExecutor() as pool:
        return dict(zip(truths, pool.map(names, truths.items()), strict=True))
