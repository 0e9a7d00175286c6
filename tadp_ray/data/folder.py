"""Your own images: a folder of images, a folder of label maps, and a list of class names."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from tadp_ray.data.config import FolderData
from tadp_ray.data.files import Layout, Measured, first_few, nothing_wrong
from tadp_ray.data.images import class_table, read_mask
from tadp_ray.data.names import Names, chosen, distinct, find_files, ids_of, pair_up
from tadp_ray.data.sample import Split
from tadp_ray.errors import UserError


def layout(data: FolderData, split: Split) -> Layout:
    """Return the pairs of one split, and the meaning of their label values.

    Raises:
        UserError: folders, lists or pairs are missing; or there are too many classes.
    """
    images, masks, unpaired = find_pairs(data, split)
    otherwise = (
        f"is beyond the {len(data.classes)} names of data.classes; add its name, or list the value under data.ignore"
    )
    return Layout(
        classes=data.classes,
        images=images,
        truths=masks,
        read=partial(
            read_mask, table=class_table(len(data.classes), data.ignore, data.reduce_zero_label), otherwise=otherwise
        ),
        rules=(data.ignore, data.reduce_zero_label),
        judge=partial(too_few_classes, data) if split == "train" else nothing_wrong,
        unpaired=unpaired,
    )


def find_pairs(data: FolderData, split: Split) -> tuple[dict[str, Path], dict[str, Path], tuple[Path, ...]]:
    """Return image and label map files by id, and label maps without an image.

    The files of a pair have the same path below the fixed folders of their globs, except for extension and suffix. The id is
    the file's stem, or that path if stems repeat in the split.
    """
    root, where, globs = data.root, f"data.{split}", data.train if split == "train" else data.val
    if not root.is_dir():
        raise UserError(
            f"data.root={str(root)!r}: there is no such folder. It should hold the photographs ({globs.images}) "
            f"and their label maps ({globs.masks}); name it with --set data.root=FOLDER"
        )
    found = distinct(find_files(globs.images, root))
    masks = distinct(find_files(globs.masks, root), data.mask_suffix)
    if not found:
        raise UserError(f"{where}.images={globs.images!r}: no file in {root} matches this glob")
    ids, pairs = ids_of(found), pair_up(found, masks)
    partners = {ids[key]: mask for key, mask in pairs.items()}
    images = {ids[key]: path for key, path in found.items()}
    unpaired = sorted(set(masks.values()) - set(partners.values()))
    if globs.list is not None:
        there = {name: path.relative_to(root) for name, path in images.items()}
        beside = {name: path.relative_to(root) for name, path in partners.items() if path}
        named = chosen(root / globs.list, Names(there, root), Names(beside, root))
        images = {name: images[name] for name in named}
    if missing := [name for name in images if partners[name] is None]:
        suffix = f" whose names end in {data.mask_suffix}" if data.mask_suffix else ""
        alike = f"; label maps without an image are {first_few(map(str, unpaired), 3)}" if unpaired else ""
        raise UserError(
            f"{where}.masks={globs.masks!r}: no label map in {root}{suffix} for {first_few(missing)}{alike}. A label map has "
            "the name of its image, in the same folders below the fixed folders of the globs"
        )
    return images, {name: mask for name in images if (mask := partners[name])}, tuple(unpaired)


def too_few_classes(data: FolderData, found: Mapping[str, Measured]) -> list[str]:
    """Return one line if the training images contain fewer than two classes, so that there is nothing to learn."""
    shown = sorted({label for each in found.values() for label in each.present})
    if len(shown) > 1:
        return []
    first = int(data.reduce_zero_label)
    named = f"{data.classes[shown[0]]!r} alone" if shown else "none of the classes"
    absent = [f"{name} is {label + first}" for label, name in enumerate(data.classes) if label not in shown]
    ignored = f" The value {' or '.join(map(str, data.ignore))} in them is left out, as data.ignore says." * any(
        each.left_out for each in found.values()
    )
    return [
        f"data.train: the {len(found)} label maps show {named}, so there is nothing to tell apart.{ignored} Write the number "
        f"of its class into each pixel ({first_few(absent)}), 1 for 255, say, and list under data.ignore what is no class"
    ]
