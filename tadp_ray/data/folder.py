"""Your own photographs: a folder of images, a folder of label maps, and a list of class names."""

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from tadp_ray.config.schema import FolderData
from tadp_ray.data.sample import IGNORE, Sample, Split


def first_few(names: Iterable[str], limit: int = 5) -> str:
    """`a, b, c and 7 more`."""
    names = list(names)
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


class Folder:
    """One split of a folder data set; every image and mask is opened once, before any training.

    Raises:
        ValueError: folders, pairs, files or label values that do not fit, each named, with the mend.
    """

    def __init__(self, data: FolderData, split: Split) -> None:
        self.classes = data.classes
        self._data = data
        self._where = f"data.{split}"
        self._pairs = self._find_pairs(data.train if split == "train" else data.val)
        self.ids = tuple(self._pairs)
        with ThreadPoolExecutor() as pool:
            checked = list(pool.map(self._check, self.ids))
        problems = [problem for problem, _, _ in checked if problem]
        if problems:
            raise ValueError("\n".join(problems[:20]))
        self.sizes: tuple[tuple[int, int], ...] = tuple(size for _, size, _ in checked)
        self._present = tuple(present for _, _, present in checked)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        image, mask = self._pairs[self.ids[index]]
        return Sample(id=self.ids[index], image=read_image(image), mask=self._labels(mask))

    def present(self, index: int) -> tuple[str, ...]:
        """Names of the classes with at least one pixel in the full image, in class order."""
        return tuple(self.classes[label] for label in self._present[index])

    @cached_property
    def _digest(self) -> str:
        with ThreadPoolExecutor() as pool:
            contents = pool.map(file_digest, (file for pair in self._pairs.values() for file in pair))
            settings = (self.ids, self.classes, self._data.ignore, self._data.reduce_zero_label)
            return hashlib.sha256(repr((settings, list(contents))).encode()).hexdigest()

    def digest(self) -> str:
        """Hash of all pixels, labels, names and label rules; not of where they lie."""
        return self._digest

    def _find_pairs(self, split) -> dict[str, tuple[Path, Path]]:
        root, where = self._data.root, self._where
        if not root.is_dir():
            raise ValueError(
                f"data.root={str(root)!r}: there is no such folder. It should hold the photographs ({split.images}) "
                f"and their label maps ({split.masks}); name it with --set data.root=FOLDER"
            )
        images = {path.stem: path for path in sorted(root.glob(split.images)) if path.is_file()}
        masks = {path.stem.removesuffix(self._data.mask_suffix): path for path in root.glob(split.masks)}
        if not images:
            raise ValueError(f"{where}.images={split.images!r}: no file in {root} matches this glob")
        if split.list is not None:
            wanted = self._read_list(root / split.list)
            missing = [name for name in wanted if name not in images]
            if missing:
                raise ValueError(f"{root / split.list}: no image under {split.images!r} for {first_few(missing)}")
            images = {name: images[name] for name in wanted}
        missing = [name for name in images if name not in masks]
        if missing:
            raise ValueError(f"{where}.masks={split.masks!r}: no label map in {root} for {first_few(missing)}")
        return {name: (image, masks[name]) for name, image in images.items()}

    @staticmethod
    def _read_list(path: Path) -> list[str]:
        if not path.is_file():
            raise ValueError(f"{path}: there is no such list file; name one image a line, or leave 'list' out")
        # A line may carry a folder, an extension, or the mask's name behind the image's.
        return [Path(line.split()[0]).stem for line in path.read_text().splitlines() if line.strip()]

    def _check(self, name: str) -> tuple[str | None, tuple[int, int], tuple[int, ...]]:
        """(what is wrong or None, (height, width), labels present) of one pair."""
        image_file, mask_file = self._pairs[name]
        try:
            image, mask = read_image(image_file), self._labels(mask_file)
        except ValueError as error:
            return str(error), (0, 0), ()
        if image.shape[:2] != mask.shape:
            return f"{mask_file}: label map is {mask.shape}, its image {image_file} is {image.shape[:2]}", (0, 0), ()
        labels = np.unique(mask)
        return None, mask.shape, tuple(int(label) for label in labels[labels != IGNORE])

    def _labels(self, path: Path) -> np.ndarray:
        """Label map as uint8 class indices, 255 = ignore."""
        raw = read_labels(path)
        ignored = np.isin(raw, self._data.ignore)
        labels = raw.astype(np.int64)
        if self._data.reduce_zero_label:
            ignored |= raw == 0
            labels = labels - 1
        bad = labels[(labels >= len(self.classes)) & ~ignored]
        if bad.size:
            raise ValueError(
                f"{path}: label {int(bad[0]) + self._data.reduce_zero_label} is beyond the "
                f"{len(self.classes)} names of data.classes; add its name, or list the value under data.ignore"
            )
        return np.where(ignored, IGNORE, labels).astype(np.uint8)


def read_image(path: Path) -> np.ndarray:
    """RGB uint8 (H, W, 3); ValueError names a file that is truncated or no image."""
    return np.asarray(_decode(path).convert("RGB"))


def read_labels(path: Path) -> np.ndarray:
    """Raw label values (H, W) of a grey or palette image, never converted through colours."""
    image = _decode(path)
    if image.mode not in ("L", "P", "1", "I", "I;16"):
        raise ValueError(f"{path}: a label map needs one channel of class indices, this image is {image.mode}")
    return np.asarray(image)


def _decode(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"{path}: cannot be read as an image ({error}); replace the file") from None


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
