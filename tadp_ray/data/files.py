"""Data sets in files: the files of a split, how to read them, and the data set."""

import glob
import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from tadp_ray.data.images import is_turned, read_image
from tadp_ray.data.sample import IGNORE, NO_IMAGE, Sample, Split
from tadp_ray.errors import UserError, raise_problems
from tadp_ray.files import file_digest, why_unreadable
from tadp_ray.phases import counted

if TYPE_CHECKING:
    from tadp_ray.data.index import Index

A = TypeVar("A")
B = TypeVar("B")
Fields = dict[str, np.ndarray]
"""The content of a ground-truth file: fields of a `Sample` by name, and the image's `size` (height, width) if it is told."""


ROUNDING = 1.0
"""Pixels: files round edges, so a box that reaches this far outside its image ends at the image's edge."""


def at_edges(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return boxes (N, 4) of which those that reach a little outside their image end at its edges."""
    inside = np.clip(boxes, 0, np.array([width, height] * 2, np.float32))
    return np.where(np.abs(boxes - inside) <= ROUNDING, inside, boxes)


def shown(sample: Sample) -> list[int]:
    """Return the class indices in the mask or, without a mask, of the boxes, in ascending order."""
    classes = sample.truth("box_classes" if sample.mask is None else "mask")
    return [int(index) for index in np.flatnonzero(np.bincount(classes.ravel())) if index != IGNORE]


class SampleFacts(NamedTuple):
    """Facts on one sample."""

    size: tuple[int, int]
    """(height, width) in pixels."""
    present: list[int]
    """Class indices in the image, ascending."""
    learned: list[int]
    """Those that are not only those of crowds which training leaves out."""
    range: tuple[int | float, int | float] | None
    """Of the ground truth; None if all of it is ignored."""
    counted: int
    """Pixels or boxes."""
    left_out: int
    """Ignored ones of them."""
    turned: tuple[bool, bool]
    """Whether the image, and its ground truth, has an EXIF rotation."""
    words: tuple[str, str, str]
    """Names of the values, of the counted units, and of the ignored ones."""


def nothing(_: object) -> list[Any]:
    """Return an empty list: no classes of a sample, or no problems of all samples. A lambda could not be pickled."""
    return []


@dataclass(frozen=True)
class Layout:
    """The files of one split, and how to read them. It can be pickled for loader processes."""

    classes: tuple[str, ...]
    images: Mapping[str, Path]
    """Image file by sample id, in the order of the data set."""
    truths: Mapping[str, Path]
    """Ground-truth file (label map, depth map or boxes) by sample id."""
    read: Callable[..., Fields]
    """Reads a ground-truth file, given its path; a UserError names the file, the value and what to do."""
    rules: tuple[object, ...]
    """Settings of reading; part of the digest."""
    present: Callable[[Sample], list[int]] = shown
    """Returns the class indices in an image, ascending."""
    judge: Callable[[Mapping[str, SampleFacts]], list[str]] = nothing
    """Returns problems of all samples together."""
    unpaired: tuple[Path, ...] = ()
    """Ground-truth files without an image."""
    unpaired_entries: tuple[str, ...] = ()
    """Entries without an image in a ground-truth file of many samples, each behind the file's name."""
    classes_learned: bool = True
    """Whether a model learns the classes; otherwise they are only used in prompts."""
    crowds: bool = True
    """Whether boxes include crowds, which training leaves out. Not part of the digest, since it follows from the split."""
    shared_truth: bool = False
    """Whether a ground-truth file holds many samples; `read` is then given its path and the sample's id."""

    def sample(self, name: str) -> Sample:
        """Read one sample; UserError as in `whole`."""
        return self.without_crowds(self.whole(name))

    def without_crowds(self, sample: Sample) -> Sample:
        """Return a sample without its crowds, if this split leaves them out."""
        if self.crowds or sample.crowd is None or not sample.crowd.any():
            return sample
        kept = ~sample.crowd
        boxes, classes, difficult = (values[kept] for values in sample.objects())
        return replace(sample, boxes=boxes, box_classes=classes, difficult=difficult, crowd=sample.crowd[kept])

    def whole(self, name: str) -> Sample:
        """Read one sample with its crowds, whose classes are in the image, too.

        Raises:
            UserError: a file cannot be read, or image and ground truth do not match.
        """
        for file in (self.images[name], self.truths[name]):
            if why := why_unreadable(file):
                raise UserError(f"{file}: {why}; sample {name!r} needs it")
        image = read_image(self.images[name])
        fields = self._read(name, image.shape[:2])
        size = tuple(fields.pop("size", np.array(image.shape[:2])).tolist())
        sample = Sample(id=name, image=image, **fields)
        if size != image.shape[:2]:
            raise UserError(
                f"{self.truths[name]}: was made for an image of {size}, but {self._size_told(sample)}; scale the boxes with the "
                "image, or bring the image that they were drawn on"
            )
        for what, pixels in (("label map", sample.mask), ("depth map", sample.depth)):
            if pixels is not None and pixels.shape != image.shape[:2]:
                raise UserError(
                    f"{self.truths[name]}: {what} is {pixels.shape}, its image {self._size_told(sample)}; they must be of one "
                    "size"
                )
        if sample.boxes is not None:
            self._check_boxes(sample)
        return sample

    def _size_told(self, sample: Sample) -> str:
        """Return the size of a sample's image in words, for errors."""
        file = self.images[sample.id]
        turned = ", as its EXIF orientation turns it" * is_turned(file)
        return f"{file} is {sample.image.shape[:2]} (height, width{turned})"

    def annotation(self, name: str, size: tuple[int, int] | None = None) -> Sample:
        """Read one sample with its crowds, but without its image, which is empty.

        Args:
            name: its id.
            size: (height, width) of its image, at whose edges boxes end that reach a little outside; None: not known.

        Raises:
            UserError: the file of the ground truth cannot be read.
        """
        if why := why_unreadable(self.truths[name]):
            raise UserError(f"{self.truths[name]}: {why}; sample {name!r} needs it")
        fields = self._read(name, size)
        fields.pop("size", None)
        return Sample(id=name, image=NO_IMAGE, **fields)

    def _read(self, name: str, size: tuple[int, int] | None) -> Fields:
        fields = self.read(self.truths[name], name) if self.shared_truth else self.read(self.truths[name])
        if self.shared_truth and "size" not in fields and size:
            fields["boxes"] = at_edges(fields["boxes"], *size)
        return fields

    def _check_boxes(self, sample: Sample) -> None:
        height, width = sample.image.shape[:2]
        boxes, classes, _ = sample.objects()
        low, high = boxes[:, :2], boxes[:, 2:]
        outside = ~np.all((low >= 0) & (high <= (width, height)), axis=1)
        flat = np.any(high <= low, axis=1)
        if not self.crowds and sample.crowd is not None:
            # Those that are left out may have any box.
            outside, flat = outside & ~sample.crowd, flat & ~sample.crowd
        for place in np.flatnonzero(outside | flat)[:1]:
            corners = ", ".join(f"{value:g}" for value in boxes[place])
            image = f", image {sample.id!r}" * self.shared_truth
            raise UserError(
                f"{self.truths[sample.id]}{image}: object {place + 1} ({self.classes[classes[place]]}) "
                f"{'has no area' if flat[place] else 'reaches outside'}: ({corners}) counted from 0, in an image "
                f"{width} wide and {height} high; correct it"
            )


@dataclass(frozen=True)
class PublishedSet:
    """A published data set: its description, source and layout, and how to read it."""

    title: str
    task: str
    classes: tuple[str, ...]
    home: tuple[str, ...]
    """Official project pages."""
    terms: str
    """Its licence in short; the official page is authoritative."""
    tree: str
    """Files below the root, one per line, with descriptions."""
    images: Mapping[Split, int]
    """Number of images of each published split."""
    layout: Callable[[Path, Split], Layout]
    """Finds the files of a split below a root; a UserError names the missing files."""


class FileDataset:
    """One split of a data set in files; every image and ground-truth file is opened once, before training.

    Args:
        layout: the files.
        index: of the files, which is updated; files that have not changed since are not opened. None: without one.

    Raises:
        UserError: files are missing, damaged or do not match.
    """

    def __init__(self, layout: Layout, index: "Index | None" = None) -> None:
        self.layout = layout
        self.classes = layout.classes
        self.ids = tuple(layout.images)
        opened = dict(look_at_all(layout, index))
        self._found = {name: found for name, found in opened.items() if isinstance(found, SampleFacts)}
        raise_problems([found for found in opened.values() if isinstance(found, str)] or layout.judge(self._found))
        self.sizes: tuple[tuple[int, int], ...] = tuple(found.size for found in self._found.values())

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        return self.layout.sample(self.ids[index])

    def annotation(self, index: int) -> Sample:
        """Return the sample at `index` without its image, which is not read."""
        name = self.ids[index]
        return self.layout.without_crowds(self.layout.annotation(name, self._found[name].size))

    def present(self, index: int) -> tuple[str, ...]:
        """Return the names of the classes in the full image, in class order."""
        return tuple(self.classes[label] for label in self._found[self.ids[index]].present)

    def absent(self) -> list[str]:
        """Return the names of learned classes that are in no image."""
        if not self.layout.classes_learned:
            return []
        shown = {label for found in self._found.values() for label in found.learned}
        return [name for label, name in enumerate(self.classes) if label not in shown]

    @property
    def turned(self) -> dict[str, list[Path]]:
        """The files with an EXIF rotation, by the ids of their samples."""
        layout = self.layout
        return {
            name: [*itertools.compress((layout.images[name], layout.truths[name]), found.turned)]
            for name, found in self._found.items()
            if any(found.turned)
        }

    @property
    def greatest(self) -> float | None:
        """Greatest value of the ground truth, such as the deepest in metres; None if all of it is ignored."""
        return max((found.range[1] for found in self._found.values() if found.range), default=None)

    @property
    def least(self) -> float | None:
        """Least value of the ground truth, such as the nearest in metres; None if all of it is ignored."""
        return min((found.range[0] for found in self._found.values() if found.range), default=None)

    def digest(self) -> str:
        """Return a hash of all files' contents, ids, class names and rules of reading, but not of paths.

        Every call reads files that have changed.
        """
        layout = self.layout
        files = [file for name in self.ids for file in (layout.images[name], layout.truths[name])]
        # An earlier version ignored the EXIF rotation, so the digest changes only if there are rotated images.
        turned = [*self.turned]
        settings = (self.ids, self.classes, *layout.rules, *([turned] if turned else ()))
        return hashlib.sha256(repr((settings, list(in_threads(file_digest, files)))).encode()).hexdigest()


def look_at_all(layout: Layout, index: "Index | None") -> Iterator[tuple[str, SampleFacts | str]]:
    """Yield each sample's id with the facts on it, or with its problem; save the index at the end."""
    look = index.look if index else partial(measure, layout)
    looked_at = zip(layout.images, in_threads(look, list(layout.images)), strict=True)
    yield from counted(looked_at, len(layout.images), "reading and hashing data")
    if index:
        index.save()


def in_threads(function: Callable[[A], B], items: Sequence[A]) -> Iterator[B]:
    """Yield a function's results in the order of the items. Threads take many items at a time, since a task has its cost."""
    size = max(1, min(256, len(items) // 64))
    parts = [items[first : first + size] for first in range(0, len(items), size)]
    with ThreadPoolExecutor() as pool:
        for results in pool.map(lambda part: [function(item) for item in part], parts):
            yield from results


def measure(layout: Layout, name: str) -> SampleFacts | str:
    """Return the facts on one sample, or its problem."""
    try:
        whole = layout.whole(name)
        sample = layout.without_crowds(whole)
        present = layout.present(whole)
        learned = present if sample is whole else layout.present(sample)
    except UserError as error:
        return str(error)
    values, counted, left_out, words = truth(sample)
    limits = tuple(round(end(values).item(), 3) for end in (np.min, np.max)) if values.size else None
    turned = is_turned(layout.images[name]), sample.boxes is None and is_turned(layout.truths[name])
    return SampleFacts(sample.image.shape[:2], present, learned, limits, counted, left_out, turned, words)


def truth(sample: Sample) -> tuple[np.ndarray, int, int, tuple[str, str, str]]:
    """Return the valid values, the number of pixels or boxes, the number of ignored ones, and names for these."""
    if sample.boxes is not None:
        boxes, _, difficult = sample.objects()
        return (
            boxes[:, 2:] - boxes[:, :2],
            len(boxes),
            int(difficult.sum()),
            ("box side in pixels", "boxes", "difficult"),
        )
    if sample.mask is None:
        pixels, nothing, words = sample.truth("depth"), 0, ("depth in metres", "pixels", "without a reading")
    else:
        pixels, nothing, words = sample.mask, IGNORE, ("class index", "pixels", "ignored")
    values = pixels[pixels != nothing]
    return values, pixels.size, pixels.size - values.size, words


def require(kind: str, root: Path, *parts: str) -> None:
    """Check that a data set's folders and lists are there.

    Raises:
        UserError: `root` does not hold all of `parts`; says which folder nearby does.
    """
    if not root.is_dir():
        raise UserError(f"{kind}: root={str(root)!r}: there is no such folder; {guide(kind)}")
    missing = [part for part in parts if not (root / part).exists()]
    if missing:
        nearby = [
            folder for folder in (root.parent, *sorted(root.glob("*"))) if all((folder / p).exists() for p in parts)
        ]
        mend = f"{str(nearby[0])!r} does: name it as root" if nearby else guide(kind)
        raise UserError(f"{kind}: root={str(root)!r} does not hold {', '.join(missing)}; {mend}")


def guide(kind: str) -> str:
    """Return which command explains the layout."""
    return f"`tadp-ray data check {kind}` says what goes where"


def mirrored(
    kind: str, images: Path, ending: str, truths: Path, truth_ending: str
) -> tuple[dict[str, Path], dict[str, Path]]:
    """Return the image and ground-truth files, by id, of two folders whose file paths differ only in their suffixes.

    An id is the image's path below its folder, as in the published caption files. A file without a partner is returned with the
    missing partner's path, so that opening the pair reports what is missing.

    Raises:
        UserError: there is no image.
    """
    found = {
        path.removesuffix(end)
        for folder, end in ((images, ending), (truths, truth_ending))
        for path in glob.iglob(f"**/*{end}", root_dir=folder, recursive=True)
    }
    if not found:
        raise UserError(f"{kind}: {images} holds no file that ends in {ending}; {guide(kind)}")
    stems = sorted(found)
    return (
        {stem + ending: images / (stem + ending) for stem in stems},
        {stem + ending: truths / (stem + truth_ending) for stem in stems},
    )
