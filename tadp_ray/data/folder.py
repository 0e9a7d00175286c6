"""Your own photographs: a folder of images, a folder of label maps, and a list of class names."""

from functools import partial
from pathlib import Path

from tadp_ray.config.data import FolderData
from tadp_ray.data.files import Layout, first_few, read_list
from tadp_ray.data.images import class_table, read_mask
from tadp_ray.data.sample import Split
from tadp_ray.errors import UserError


def layout(data: FolderData, split: Split) -> Layout:
    """The pairs of one split, and what their label values mean.

    Raises:
        UserError: folders, lists or pairs that are not there, each named, with the mend.
    """
    images, masks = _find_pairs(data, split)
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
    )


def _find_pairs(data: FolderData, split: Split) -> tuple[dict[str, Path], dict[str, Path]]:
    """Image and label map files by file stem."""
    root, where, globs = data.root, f"data.{split}", data.train if split == "train" else data.val
    if not root.is_dir():
        raise UserError(
            f"data.root={str(root)!r}: there is no such folder. It should hold the photographs ({globs.images}) "
            f"and their label maps ({globs.masks}); name it with --set data.root=FOLDER"
        )
    images = {path.stem: path for path in sorted(root.glob(globs.images)) if path.is_file()}
    masks = {path.stem.removesuffix(data.mask_suffix): path for path in root.glob(globs.masks)}
    if not images:
        raise UserError(f"{where}.images={globs.images!r}: no file in {root} matches this glob")
    if globs.list is not None:
        names = root / globs.list
        if not names.is_file():
            raise UserError(f"{names}: there is no such list file; name one image a line, or leave 'list' out")
        wanted = read_list(names)
        missing = [name for name in wanted if name not in images]
        if missing:
            raise UserError(f"{names}: no image under {globs.images!r} for {first_few(missing)}")
        images = {name: images[name] for name in wanted}
    missing = [name for name in images if name not in masks]
    if missing:
        raise UserError(f"{where}.masks={globs.masks!r}: no label map in {root} for {first_few(missing)}")
    return images, {name: masks[name] for name in images}
