"""Converts caption files of other origin to caption stores with the ids of our data sets."""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tadp_ray.captions.check import flaws
from tadp_ray.captions.store import CaptionStore, read_any
from tadp_ray.errors import UserError, raise_problems
from tadp_ray.files import folders_of, without_ending

FORMS = (
    lambda name: name,
    lambda name: without_ending(name.lstrip("/")),
    lambda name: without_ending(PurePosixPath(name).name),
)
"""Normal forms in which two names of the same image agree, from strict to loose."""


@dataclass(frozen=True)
class ImportedStore(CaptionStore):
    """A store, and what of its file was left out."""

    left_out: tuple[str, ...] = ()
    """The file's names of images that are none of those asked for."""
    elsewhere: tuple[str, ...] = ()
    """The file's names in another folder than the images that they were taken for."""


def import_store(path: Path, ids: Mapping[str, Path] | Collection[str] | None = None) -> ImportedStore:
    """Read a caption file of any supported format as a store, whose header names the file and counts what was left out.

    Captions are unchanged, including trailing spaces; a repeated caption of an image is kept once, unless it has a tag.

    Args:
        path: the file.
        ids: images of a data set; the file's keys become these ids, and other images are left out. With files, see
            `meaning`. None: all images, with the file's own keys.

    Raises:
        UserError: the file is damaged, has empty or invalid captions, is for other images, or two keys mean the same image.
    """
    store = read_any(path)
    if not store.captions:
        raise UserError(f"{path}: contains no captions; write or copy it again")
    raise_problems(flaws(store))
    meant = {key: key for key in store.captions} if ids is None else meaning(store.captions, ids)
    if ids is not None and not meant:
        names = ", ".join(map(repr, [*store.captions][:5]))
        raise UserError(f"{store.without(sorted(ids))}; its entries are of {names}; name the images of these entries")
    origin: dict[str, str] = {}
    for key, image_id in meant.items():
        if image_id in origin:
            raise UserError(
                f"{path}: {origin[image_id]!r} and {key!r} both mean image {image_id!r}; take one of them out"
            )
        origin[image_id] = key
    tags = {image_id: store.tags[key] for image_id, key in origin.items() if key in store.tags}
    captions = {
        image_id: store.captions[key] if image_id in tags else tuple(dict.fromkeys(store.captions[key]))
        for image_id, key in origin.items()
    }
    header = {
        **store.origin(whole=len(captions) == len(store)),
        "imported_from": path.name,
        "imported_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "imported_images": len(store),
        "left_out": len(store) - len(captions),
        "rekeyed": sum(image_id != key for image_id, key in origin.items()),
        "repeats_dropped": sum(len(store.captions[key]) - len(captions[image_id]) for image_id, key in origin.items()),
    }
    names = {image_id: store.names[key] for image_id, key in origin.items() if key in store.names}
    left_out = tuple(key for key in store.captions if key not in meant)
    files = ids if isinstance(ids, Mapping) else {}
    elsewhere = tuple(key for key in meant if files and folder_of(key) not in ("", files[meant[key]].parent.name))
    return ImportedStore(captions, header, names=names, tags=tags, left_out=left_out, elsewhere=elsewhere)


def meaning(keys: Iterable[str], ids: Mapping[str, Path] | Collection[str]) -> dict[str, str]:
    """Return the image id of each key: the same name, else without extension, else only the file name without extension.

    A key that could mean several images is left out: `rgb_00045` of NYUv2 is a file in every room. So is one with other folders:
    `train/0001.png` is not `val/0001.png`. With files, this holds for their folders, too, if any key has the folders of a file:
    the id is 0001 if one of the folders alone was named.
    """
    found: dict[str, str] = {}
    open_keys = list(keys)
    for form in FORMS:
        by_form: dict[str, list[str]] = defaultdict(list)
        for image_id in ids:
            by_form[form(image_id)].append(image_id)
        for key in open_keys:
            match by_form.get(form(key)):
                case [image_id] if agree(folders_of(PurePosixPath(key)), folders_of(PurePosixPath(image_id))):
                    found[key] = image_id
        open_keys = [key for key in open_keys if key not in found]
    if isinstance(ids, Mapping):
        # A key without folders agrees with every file.
        agreeing = {
            key: image_id
            for key, image_id in found.items()
            if agree(folders_of(PurePosixPath(key)), folders_of(ids[image_id]))
        }
        if any(map(folder_of, agreeing)):
            return agreeing
    return found


def folder_of(key: str) -> str:
    """Return the name of the folder in a name of an image; empty if there is none."""
    return PurePosixPath(key).parent.name


def agree(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Return whether the folders of two paths may be the same: those of one end with those of the other."""
    shared = min(len(one), len(other))
    return one[len(one) - shared :] == other[len(other) - shared :]
