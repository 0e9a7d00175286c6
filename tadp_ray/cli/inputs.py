"""Finds the images, label maps and ground truth of commands, by globs, a published data set, a recipe or a store."""

import glob
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from tadp_ray.captions.oracle import names_of
from tadp_ray.captions.store import read_store
from tadp_ray.config.classes import parse_classes
from tadp_ray.config.data import DataConfig
from tadp_ray.config.load import load_recipe
from tadp_ray.config.recipe import Recipe
from tadp_ray.config.shipped import file_of, shipped
from tadp_ray.data.check import find
from tadp_ray.data.config import FolderData
from tadp_ray.data.datasets import FileSource, class_names, published_datasets, source_of
from tadp_ray.data.files import Layout, guide, in_threads
from tadp_ray.data.folder import find_images
from tadp_ray.data.images import class_table, read_mask
from tadp_ray.data.names import distinct, find_files, ids_of
from tadp_ray.data.sample import Split
from tadp_ray.errors import UserError, said_as
from tadp_ray.wording import first_few, pluralized


def mask_options(
    classes: str | None, ignore: Sequence[int] | None, reduce_zero_label: bool, suffix: str
) -> dict[str, Any]:
    """Return the options that belong to --masks, by their names."""
    return {
        "--classes": classes,
        "--ignore": ignore,
        "--reduce-zero-label": reduce_zero_label,
        "--mask-suffix": suffix,
    }


def reading(of_masks: Mapping[str, Any]) -> dict[str, Any]:
    """Return how label maps are read, from the options of `mask_options`."""
    return {"ignore": of_masks["--ignore"] or [255], "reduce_zero_label": of_masks["--reduce-zero-label"]}


def truth(
    masks: Sequence[str] | None,
    of_masks: Mapping[str, Any],
    data: str | None,
    of_data: Mapping[str, Any],
    oracle: Path | None = None,
) -> tuple[Sequence[str], Mapping[str, Sequence[str]]]:
    """Return the class names, and the classes in each image, from label maps, a published data set or a recipe, or an oracle.

    Args:
        masks: globs of label maps.
        of_masks: the options that belong to them.
        data: a published data set or a recipe.
        of_data: the options that belong to it.
        oracle: a caption store.

    Raises:
        UserError: none is fully named, or several are, or an option belongs to another one.
    """
    owners = {"--masks": (masks, of_masks), "--data": (data, of_data), "--oracle": (oracle, {})}
    named = [name for name, (value, _) in owners.items() if value]
    if len(named) != 1 or (masks and not of_masks["--classes"]):
        raise UserError(
            "name the ground truth with --masks and --classes, or with --data and --root (align: or --oracle)"
        )
    for owner, (_, options) in owners.items():
        stray = next((option for option, value in options.items() if value), None)
        if stray and owner not in named:
            raise UserError(f"{stray}: belongs to {owner}, not to {named[0]}; leave it out")
    if oracle:
        return names_of(read_store(oracle))
    if data:
        return classes_of(data), names_in_published(data, of_data["--root"], of_data["--split"])
    names, files = parse_classes(of_masks["--classes"]), of_globs(masks or (), of_masks["--mask-suffix"], "--masks")
    return names, names_in_masks(files, names, **reading(of_masks))


def pictures(
    data: str | None, root: Path | None, split: str | None, images: Sequence[str] | None
) -> dict[str, Path] | None:
    """Return image files by id, from globs, a published data set or a recipe; None if none is named.

    Raises:
        UserError: both are named, or a published data set without its folder.
    """
    if data and not images:
        return photographs(data, root, split)
    if data or root or split:
        raise UserError("name images with --images, or with --data and --root")
    return of_globs(images) if images else None


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


def of_globs(patterns: Sequence[str], suffix: str = "", option: str = "--images") -> dict[str, Path]:
    """Return the files of several globs by id; each glob has the ids of `by_id`, as each split of a recipe has.

    Raises:
        UserError: as in `by_id`; or files of two globs have the same id.
    """
    return merged({f"{option} {pattern}": by_id(pattern, suffix) for pattern in patterns})


def merged(parts: Mapping[str, Mapping[str, Path]]) -> dict[str, Path]:
    """Return the files of several parts, named by an option, by id.

    Raises:
        UserError: files of two parts have the same id.
    """
    files: dict[str, Path] = {}
    for name, part in parts.items():
        twice = [image_id for image_id, file in part.items() if files.get(image_id, file) != file]
        if twice:
            raise UserError(
                f"{name}: {part[twice[0]]} has the id {twice[0]!r} of {files[twice[0]]} ({len(twice)} of "
                f"{pluralized(len(part), 'images')}); name {' and '.join(parts)} one at a time, each for a caption store of "
                "its own, of which a recipe names two (caption.store, caption.target_store)"
            )
        files |= part
    return files


def recipe_named(name: str, root: Path | None = None) -> Recipe | None:
    """Return a recipe, by its file or its shipped name, with data below `root` if given; None if it is no recipe's name.

    A name of both a data set and a recipe, such as ade20k, means the data set.
    """
    if name in published_datasets() or not (Path(name).suffix == ".yaml" or name in shipped("recipes")):
        return None
    changes = [] if root is None else [f"data.root={json.dumps(str(root))}"]
    return load_recipe(file_of(Path(name), "recipes"), changes)


def recipe_data(name: str, root: Path | None = None) -> DataConfig | None:
    """Return the data of `recipe_named`."""
    recipe = recipe_named(name, root)
    return None if recipe is None else recipe.data


def classes_of(name: str) -> tuple[str, ...]:
    """Return the classes of a published data set or of a recipe's data; raise UserError if there is neither."""
    data = recipe_data(name)
    return find(name).classes if data is None else class_names(data)


def layouts(name: str, root: Path | None, split: str | None) -> dict[Split, Callable[[], Layout]]:
    """Return what finds the files of one split of a published data set or of a recipe's data, or of all of them.

    Raises:
        UserError: there is no such data set, recipe or split, or the data are not in files.
    """
    data = recipe_data(name, root)
    found: dict[Split, Callable[[], Layout]]
    if data is None:
        dataset = find(name)
        if root is None:
            raise UserError(f"{name}: name the folder that holds it with --root; {guide(name)}")
        found = {each: partial(dataset.layout, root, each) for each in dataset.images}
    else:
        source = source_of(data)
        if not isinstance(source, FileSource):
            raise UserError(f"{name}: data.kind: {data.kind} has no files; name a recipe of photographs")
        found = {"train": partial(source.layout, data, "train"), "val": partial(source.layout, data, "val")}
    if split is not None and split not in found:
        raise UserError(f"--split {split}: {name} has {' and '.join(found)}")
    return {each: layout_of for each, layout_of in found.items() if split in (None, each)}


def photographs(name: str, root: Path | None, split: str | None) -> dict[str, Path]:
    """Return the image files of a published data set or of a recipe's data by sample id.

    Those of a folder need no ground truth.

    Raises:
        UserError: as in `layouts` and `merged`; or files are missing.
    """
    data, found = recipe_data(name, root), layouts(name, root, split)
    with said_as({"--set data.root=": "--root "}):
        if isinstance(data, FolderData):
            return merged({f"--split {each}": find_images(data, each) for each in found})
        return merged({f"--split {each}": layout_of().images for each, layout_of in found.items()})


def find_photographs(data: str, root: Path | None = None, split: str | None = None) -> dict[str, Path]:
    """Return image files by the ids of captions: of a published data set below `root`, a recipe, a folder or a glob.

    Without `split`, all splits are returned, since a recipe has one caption store.

    Raises:
        UserError: there are no files, one is missing, or two have the same id.
    """
    if root is None and data not in published_datasets() and recipe_data(data) is None:
        if split is not None:
            raise UserError(
                f"--split {split}: only a published data set with --root and a recipe have splits; {data} is files"
            )
        if Path(data).is_dir():
            endings = Image.registered_extensions()
            return by_id(f"{glob.escape(data)}/*", keep=lambda file: file.suffix.lower() in endings)
        return by_id(data)
    files = photographs(data, root, split)
    if missing := [str(file) for file in files.values() if not file.is_file()]:
        where = f"; {guide(data)}" if data in published_datasets() else "; bring them back"
        raise UserError(f"{data}: {pluralized(len(missing), 'images')} missing: {first_few(missing)}{where}")
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


def names_in_published(kind: str, root: Path | None, split: str | None) -> dict[str, tuple[str, ...]]:
    """Return the names of the classes in each image of `photographs`, in class order, without reading the images.

    Raises:
        UserError: see `photographs`; or a file cannot be read.
    """
    with said_as({"--set data.root=": "--root "}):
        found = {f"--split {each}": layout_of() for each, layout_of in layouts(kind, root, split).items()}
    merged({option: layout.images for option, layout in found.items()})
    names: dict[str, tuple[str, ...]] = {}
    for layout in found.values():
        names |= _names(layout)
    return names


def _names(layout: Layout) -> dict[str, tuple[str, ...]]:
    def names(image_id: str) -> tuple[str, ...]:
        return tuple(layout.classes[label] for label in layout.present(layout.annotation(image_id)))

    return dict(zip(layout.truths, in_threads(names, list(layout.truths)), strict=True))
