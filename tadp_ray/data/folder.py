"""Your own images: a folder of images, and a folder of label maps, of depth maps or of boxes, or one file of boxes."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from tadp_ray.data.coco import Annotations, Objects, boxes_by_image, read_annotations
from tadp_ray.data.config import FolderData
from tadp_ray.data.files import Fields, Layout, SampleFacts, nothing, shown
from tadp_ray.data.images import class_table, read_depth, read_mask
from tadp_ray.data.names import Names, chosen, distinct, find_files, ids_of, pair_up
from tadp_ray.data.pascal import read_own_boxes
from tadp_ray.data.sample import Split
from tadp_ray.errors import UserError
from tadp_ray.files import file_digest
from tadp_ray.wording import first_few, pluralized

Judge = Callable[[Mapping[str, SampleFacts]], list[str]]
WORDS = {"masks": "label map", "depth": "depth map", "boxes": "annotation"}
"""What a file of ground truth is called, by its key."""


def layout(data: FolderData, split: Split) -> Layout:
    """Return the pairs of one split, and the meaning of their values.

    Raises:
        UserError: folders, lists or pairs are missing; a file of boxes cannot be used; or there are too many classes.
    """
    truth = data.train.truth
    if truth == "boxes" and getattr(data, split).boxes.endswith(".json"):
        return one_file(data, split)
    images, truths, unpaired = find_pairs(data, split)
    read, rules, judge = READERS[truth](data)
    return Layout(
        classes=data.classes,
        images=images,
        truths=truths,
        read=read,
        rules=rules,
        judge=judge if split == "train" else nothing_scored,
        unpaired=unpaired,
        classes_learned=truth != "depth",
        present=nothing if truth == "depth" else shown,
    )


def of_masks(data: FolderData) -> tuple[Callable[[Path], Fields], tuple[Any, ...], Judge]:
    """Return the reader of label maps, its settings, and the check of all training images."""
    from_one = "" if data.reduce_zero_label else ", or, if labels start at 1, set data.reduce_zero_label: true"
    otherwise = (
        f"is beyond the {len(data.classes)} names of data.classes; add its name, list the value under data.ignore"
        + from_one
    )
    table = class_table(len(data.classes), data.ignore, data.reduce_zero_label)
    rules = (data.ignore, data.reduce_zero_label)
    return partial(read_mask, table=table, otherwise=otherwise), rules, partial(too_few_classes, data)


def of_depth(data: FolderData) -> tuple[Callable[[Path], Fields], tuple[Any, ...], Judge]:
    """Return the reader of depth maps, its settings, and no check of all training images."""
    return partial(read_own_depth, scale=data.depth_scale), ("depth", data.depth_scale), nothing


def read_own_depth(path: Path, scale: float) -> Fields:
    """Read a depth map, an image with `scale` units per metre or .npy in metres; errors as for `read_depth`."""
    mend = "correct the units: images have data.depth_scale units per metre, .npy has metres"
    if path.suffix == ".npy":
        return read_depth(path, 1, "metres", mend)
    return read_depth(path, scale, f"{scale:g} units per metre (data.depth_scale)", mend)


def of_boxes(data: FolderData) -> tuple[Callable[[Path], Fields], tuple[Any, ...], Judge]:
    """Return the reader of VOC's annotations, its settings, and the check of all training images."""
    return partial(read_own_boxes, names=data.classes, known=KNOWN), ("boxes",), no_boxes


READERS = {"masks": of_masks, "depth": of_depth, "boxes": of_boxes}
KNOWN = "add the name to data.classes, spelled like this, or take the object out; its names are"


def one_file(data: FolderData, split: Split) -> Layout:
    """Return the images of one split with their boxes in one file of COCO's format.

    An entry of the file belongs to the image of its `file_name`, or of the end of that path.

    Raises:
        UserError: the folder, images, the file or entries are missing, or the file cannot be used.
    """
    images, where = find_images(data, split), f"data.{split}.boxes"
    path = data.root / getattr(data, split).boxes
    file = read_annotations(path)
    found = boxes_by_image(path, file, data.classes)
    names = Names({name: PurePosixPath(image.relative_to(data.root)) for name, image in images.items()}, data.root)
    fields: dict[str, Fields] = {}
    for entry in file.images:
        meant = names.meant(entry.file_name)
        if len(meant) > 1 or (meant and meant[0] in fields):
            raise UserError(
                f"{path}: images: file_name {entry.file_name!r} may mean {first_few(meant)}, or another entry means it, too; "
                "write more of its path"
            )
        if meant:
            fields[meant[0]] = found[str(entry.id)]
    if missing := [name for name in images if name not in fields]:
        raise UserError(
            f"{where}={getattr(data, split).boxes!r}: {path} has no entry under images for {first_few(missing)} "
            f"({len(missing)} of {len(images)} photographs); add them, also photographs without objects, or leave them out by "
            f"data.{split}.list"
        )
    return Layout(
        classes=data.classes,
        images=images,
        truths=dict.fromkeys(images, path),
        read=Objects({name: fields[name] for name in images}),
        rules=("boxes",),
        judge=no_boxes if split == "train" else nothing_scored,
        crowds=split != "train",
        shared_truth=True,
        unpaired_entries=entries_alone(data, split, path, file, names),
    )


def entries_alone(data: FolderData, split: Split, path: Path, file: Annotations, names: Names) -> tuple[str, ...]:
    """Return the entries of a file of boxes that mean no photograph, neither of a split nor of the other.

    Empty if a list says which photographs are meant.

    Args:
        data: the photographs.
        split: whose boxes the file has.
        path: of the file.
        file: its content.
        names: the split's photographs.
    """
    if getattr(data, split).list is not None:
        return ()
    # One file may serve both splits.
    other = find_files((data.val if split == "train" else data.train).images, data.root)
    others = Names({str(image): image.relative_to(data.root) for _, image in other}, data.root)
    meant = [entry.file_name for entry in file.images]
    return tuple(f"{path}: {name}" for name in meant if not names.meant(name) and not others.meant(name))


def find_images(data: FolderData, split: Split) -> dict[str, Path]:
    """Return the image files of one split by id, without their ground truth.

    Raises:
        UserError: the folder or the images are missing, or a list does not fit.
    """
    found, globs = all_images(data, split), getattr(data, split)
    ids = ids_of(found)
    images = {ids[key]: path for key, path in found.items()}
    if globs.list is None:
        return images
    there = {name: path.relative_to(data.root) for name, path in images.items()}
    return {name: images[name] for name in chosen(data.root / globs.list, Names(there, data.root), Names({}))}


def all_images(data: FolderData, split: Split) -> dict[PurePosixPath, Path]:
    """Return all files of the glob of a split's images by what the wildcards match.

    Raises:
        UserError: there are none, or two have the same name.
    """
    root, globs = data.root, getattr(data, split)
    if not root.is_dir():
        truth = globs.truth
        raise UserError(
            f"data.root={str(root)!r}: there is no such folder. It should hold the photographs ({globs.images}) "
            f"and their {WORDS[truth]}s ({getattr(globs, truth)}); name it with --set data.root=FOLDER"
        )
    found = distinct(find_files(globs.images, root))
    if not found:
        raise UserError(f"data.{split}.images={globs.images!r}: no file in {root} matches this glob")
    return found


def find_pairs(data: FolderData, split: Split) -> tuple[dict[str, Path], dict[str, Path], tuple[Path, ...]]:
    """Return image and ground-truth files by id, and files of ground truth without an image.

    The files of a pair have the same path below the fixed folders of their globs, except for extension and suffix. The id is
    the file's stem, or that path if stems repeat in the split.
    """
    root, globs = data.root, getattr(data, split)
    truth, word = globs.truth, WORDS[globs.truth]
    found = all_images(data, split)
    truths = distinct(find_files(getattr(globs, truth), root), data.mask_suffix)
    ids, pairs = ids_of(found), pair_up(found, truths)
    partners = {ids[key]: file for key, file in pairs.items()}
    images = {ids[key]: path for key, path in found.items()}
    unpaired = sorted(set(truths.values()) - set(partners.values()))
    if globs.list is not None:
        there = {name: path.relative_to(root) for name, path in images.items()}
        beside = {name: path.relative_to(root) for name, path in partners.items() if path}
        named = chosen(root / globs.list, Names(there, root), Names(beside, root))
        images = {name: images[name] for name in named}
    if missing := [name for name in images if partners[name] is None]:
        suffix = f" whose names end in {data.mask_suffix}" if data.mask_suffix else ""
        alike = f"; {word}s without an image are {first_few(map(str, unpaired), 3)}" if unpaired else ""
        raise UserError(
            f"data.{split}.{truth}={getattr(globs, truth)!r}: no {word} in {root}{suffix} for {first_few(missing)}{alike}. "
            f"{'An' if word[0] == 'a' else 'A'} {word} has the name of its image, in the same folders below the fixed folders "
            "of the globs"
        )
    return images, {name: file for name in images if (file := partners[name])}, tuple(unpaired)


def shared_images(data: FolderData, train: Mapping[str, Path], val: Mapping[str, Path]) -> list[str]:
    """Return one line if images are in both splits, as the same files or as copies, given each split's by id."""
    learned = set(map(file_digest, train.values()))
    both = [name for name, path in val.items() if file_digest(path) in learned]
    if not both:
        return []
    return [
        f"data.train.images={data.train.images!r}, data.val.images={data.val.images!r}: {pluralized(len(both), 'images')} of "
        f"both ({first_few(both, 3)}), so evaluation scores images that the model was trained on; evaluate on others"
    ]


def no_boxes(found: Mapping[str, SampleFacts]) -> list[str]:
    """Return one line if no training image has a box, or none has a side that a pixel would have."""
    longest = [each.range[1] for each in found.values() if each.range]
    if longest and max(longest) <= 1:
        return [f"data.train.boxes: no box is longer than {max(longest):g} pixels: fractions of an image? Write pixels"]
    if any(each.counted for each in found.values()):
        return []
    return [f"data.train.boxes: none of the {len(found)} images has a box, so there is nothing to learn; draw some"]


def nothing_scored(found: Mapping[str, SampleFacts]) -> list[str]:
    """Return one line if no evaluation image has ground truth that counts."""
    if any(each.counted > each.left_out for each in found.values()):
        return []
    *_, left_out = next(iter(found.values())).words
    return [
        f"data.val: the ground truth of all {len(found)} images is {left_out} or empty, so there is nothing to score; name "
        "images with ground truth"
    ]


def too_few_classes(data: FolderData, found: Mapping[str, SampleFacts]) -> list[str]:
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
