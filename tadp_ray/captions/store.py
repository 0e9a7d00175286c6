"""Caption stores: a file that maps image ids to captions, in the published format or in our own."""

import difflib
import hashlib
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from tadp_ray.captions import forms
from tadp_ray.errors import UserError
from tadp_ray.files import FileState, composed, file_state, is_any_of, without_ending, write_text
from tadp_ray.wording import first_few, pluralized

VERSION = 1
ORACLES = ("oracle", "degraded oracle")
"""Captioners in headers that use the ground truth."""
PUBLISHED_ORACLE = "pascal_class_names.json"
"""The published file of ground-truth names; it has no header."""


@dataclass(frozen=True)
class CaptionStore:
    """Captions by image id. `header` describes how they were made (captioner, settings), `path` is the file they come from.

    For captions that are made from class names, `names` has these names separately.
    """

    captions: Mapping[str, tuple[str, ...]]
    header: Mapping[str, Any] = field(default_factory=dict)
    path: Path | None = None
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Of an image's captions, in their order, by which a recipe chooses one; only of images whose captions have tags."""

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, image_id: str) -> tuple[str, ...]:
        """Return the captions of one image, at least one; raise UserError as in `check` if there is none."""
        self.check([image_id])
        return self.captions[image_id]

    @property
    def several(self) -> list[str]:
        """Ids of the images with several captions without tags, of which `chosen` takes the first."""
        return sorted(i for i, texts in self.captions.items() if len(texts) > 1 and i not in self.tags)

    @property
    def uses_ground_truth(self) -> bool:
        """Whether its captions use the ground truth, by its header or its published name."""
        published = {self.header.get("imported_from"), self.path.name if self.path else None}
        return self.header.get("captioner") in ORACLES or PUBLISHED_ORACLE in published

    def origin(self, whole: bool) -> dict[str, Any]:
        """Return what a store that is made of this one says of it, in its header.

        A published oracle would be known by its name alone. Realised precision and recall are those of the whole store.
        """
        kept = {key: value for key, value in self.header.items() if whole or key != "realised"}
        return ({"captioner": ORACLES[0]} if self.uses_ground_truth else {}) | kept

    def check(self, ids: Iterable[str]) -> None:
        """Raise one UserError for all ids without a caption."""
        missing = sorted(set(ids) - self.captions.keys())
        if not missing:
            return
        problem = self.without(missing)
        if mend := self._rekeyed(missing):
            raise UserError(f"{problem}; {mend}")
        # A wrong suffix or folder prefix is the usual cause, which a similar id shows.
        nearest = difflib.get_close_matches(missing[0], self.captions, n=1, cutoff=0.5)
        hint = f"; the nearest id to {missing[0]!r} there is {nearest[0]!r}" if nearest else ""
        raise UserError(
            f"{problem}{hint}. Point caption.store to the file made for this data set and split, or caption the missing images."
        )

    def without(self, missing: Sequence[str]) -> str:
        """Return the sentence on images without a caption."""
        return (
            f"{self.path or 'this caption store'}: no caption for {pluralized(len(missing), 'images')}: "
            f"{first_few(map(repr, missing))} (of {pluralized(len(self), 'captioned images')})"
        )

    def _rekeyed(self, missing: Sequence[str]) -> str | None:
        """Return how to mend ids without a caption if all of them differ from captioned ones by an ending; else None."""
        captioned = {without_ending(key): key for key in self.captions}
        if self.path is None or any(without_ending(image_id) not in captioned for image_id in missing):
            return None
        return (
            f"{missing[0]!r} is {captioned[without_ending(missing[0])]!r} there. Write the ids of your images: "
            f"{import_command(self.path)}, and name the new file in caption.store"
        )

    def chosen(self, ids: Iterable[str], tag: str | None) -> dict[str, str]:
        """Return one caption of each image: that with a tag, or the first of an image whose captions have none.

        Raises:
            UserError: images without a caption, or without this tag, or with tags although none is asked for.
        """
        ids = list(ids)
        self.check(ids)
        known = {image_id: self.tags.get(image_id, ()) for image_id in ids}
        wrong = sorted(image_id for image_id, tags in known.items() if (tag not in tags if tag else tags))
        if wrong:
            tags = ", ".join(known[wrong[0]])
            mend = f"choose one of its tags: {tags}" if tags else "its captions have no tags; leave the key out"
            raise UserError(
                f"{self.path or 'this caption store'}, id {wrong[0]!r} ({len(wrong)} of {len(ids)} images): no caption for "
                f"caption.tag={tag!r}; {mend}"
            )
        return {i: self.captions[i][tags.index(tag) if tag else 0] for i, tags in known.items()}

    def digest(self) -> str:
        """Return the sha256 hex of ids, captions, tags and names, independent of the header, the order and the path."""
        more = (self.tags, self.names)
        rows = [(i, texts, *(part[i] for part in more if i in part)) for i, texts in sorted(self.captions.items())]
        content = json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(content.encode()).hexdigest()

    def write(self, path: Path) -> None:
        """Write our JSON lines format: a header line, then one line per image, sorted by id.

        The file appears whole or not at all, so a reader never meets a half-written store.
        """
        header = {**self.header, "caption_store": VERSION, "images": len(self)}
        rows = [
            {"id": image_id, "captions": self._entry(image_id)}
            | ({"names": self.names[image_id]} if image_id in self.names else {})
            for image_id in sorted(self.captions)
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in [header, *rows]))

    def _entry(self, image_id: str) -> Sequence[str] | dict[str, str]:
        """Return an image's captions as files have them."""
        texts, tags = self.captions[image_id], self.tags.get(image_id)
        return dict(zip(tags, texts, strict=True)) if tags else texts


def read_store(path: Path) -> CaptionStore:
    """Read a caption store in either format, which the first line shows.

    - published (TADP's caption files): one JSON object `{id: {"captions": [str], ...}}`; other keys, such as the
      dominant class that some files carry, are left aside.
    - ours: JSON Lines, a header `{"caption_store": 1, "images": N, ...}`, then `{"id": str, "captions": [str]}`, where
      class names were put together with `"names": [str]`.

    In both, the captions of an image may have tags: `"captions": {"scene": str, "relations": str}`.

    Ids are in one spelling, Unicode NFC, as those of data sets are. UserError naming the file and the place where it is torn
    or has another shape, and what it is then.

    A process parses each version of a file once, since the cells of a plan share their stores.
    """
    try:
        return _read_version(path, file_state(path))
    except OSError:
        return _parse(path)


@lru_cache(maxsize=4)
def _read_version(path: Path, _: FileState) -> CaptionStore:
    return _parse(path)


def _parse(path: Path) -> CaptionStore:
    text = forms.caption_text(path)
    first, _, rest = text.partition("\n")
    if (
        '"caption_store"' in first
        and isinstance(header := forms.parse(first, path), dict)
        and "caption_store" in header
    ):
        return _read_lines(header, rest, path)
    published = forms.rows(text, path)
    if isinstance(published, tuple):
        raise UserError(
            f"{path}: not a caption store but {published[0]}; {import_command(path)}, and name the new file"
        )
    for key, entry in published.items():
        if isinstance(entry, str | list):
            what = "a text" if isinstance(entry, str) else "a list"
            raise UserError(
                f'{path}, id {key!r}: expected an object with "captions": [at least one string], not {what} alone; '
                f"{import_command(path)}, and name the new file"
            )
    return _of_object(published, path)


def import_command(path: Path, images: str = "--data RECIPE.yaml") -> str:
    """Return the command that converts a file to a store beside it, with the ids of these images, by default a recipe's."""
    out = path.with_suffix(".store.jsonl")
    return f"tadp-ray caption import {shlex.quote(str(path))} {images} --out {shlex.quote(str(out))}"


def check_out(out: Path, *read: Path) -> None:
    """Check that a store which is written to `out` replaces none of the files that are read, and nothing but another store.

    Raises:
        UserError: it would; names another file.
    """
    if not out.is_file():
        return
    other = f"name another file, e.g. {out.with_suffix('.store.jsonl')}"
    if is_any_of(out, read):
        raise UserError(f"--out {out}: is the file that is read, which would be lost; {other}")
    with out.open(encoding="utf-8", errors="replace") as file:
        first = file.readline()
    if first and '"caption_store"' not in first:
        raise UserError(f"--out {out}: is a file of other content, not a caption store, which would be lost; {other}")


def read_any(path: Path) -> CaptionStore:
    """Read a caption store, or a file that can be converted to one without loss.

    That is `{id: "text"}` or `{id: ["text", ...]}`; a table whose header names the images `file_name`, `image`, `image_id` or
    `id` and the captions `caption` or `text`, separated by commas, semicolons or tabs; objects of these names, one a line or in
    one list; or COCO's captions. An image may have several rows.

    UserError as in `read_store`.
    """
    text = forms.caption_text(path)
    if '"caption_store"' in text.partition("\n")[0]:
        return read_store(path)
    found = forms.rows(text, path)
    if isinstance(found, tuple):
        captions: dict[str, list[str]] = {}
        for place, image, said in found[1]:
            image = str(image) if type(image) is int else image
            if not isinstance(image, str) or not image:
                raise UserError(f"{path}, {place}: an image's name must be a string, not {image!r:.80}")
            texts = strings(said if isinstance(said, list) else [said], path, place)
            captions.setdefault(identity(image, path), []).extend(texts)
        return CaptionStore({image: tuple(texts) for image, texts in captions.items()}, path=path)
    whole = {
        key: {"captions": [entry] if isinstance(entry, str) else entry} if isinstance(entry, str | list) else entry
        for key, entry in found.items()
    }
    return _of_object(whole, path)


def _of_object(entries: Mapping[str, object], path: Path) -> CaptionStore:
    captions: dict[str, tuple[str, ...]] = {}
    tags: dict[str, tuple[str, ...]] = {}
    for key, entry in entries.items():
        image_id = identity(key, path)
        if image_id in captions:
            raise UserError(f"{path}: {key!r} occurs in two spellings of its accents; keep one of the two entries")
        captions[image_id] = captions_of(entry, path, f"id {key!r}")
        tags |= tags_of(image_id, entry, path)
    return CaptionStore(captions, path=path, tags=tags)


def _read_lines(header: dict[str, object], rest: str, path: Path) -> CaptionStore:
    if header["caption_store"] != VERSION:
        raise UserError(f"{path}, line 1: caption_store {header['caption_store']!r} is unknown, expected {VERSION}")
    captions: dict[str, tuple[str, ...]] = {}
    names: dict[str, tuple[str, ...]] = {}
    tags: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(forms.lines_of(rest) if rest.strip() else [], start=2):
        place = f"line {number}"
        entry = forms.parse(line, path, number)
        texts = captions_of(entry, path, place)
        image_id = identity(entry["id"], path) if isinstance(entry.get("id"), str) else None
        if image_id is None or image_id in captions:
            raise UserError(
                f'{path}, {place}: "id" must be a string not seen on a line before, not {entry.get("id")!r:.80}'
            )
        captions[image_id] = texts
        tags |= tags_of(image_id, entry, path)
        if "names" in entry:
            names[image_id] = strings(entry["names"], path, f"{place}, names")
    # A file truncated between two lines is valid except for the count.
    if header.get("images") != len(captions):
        raise UserError(
            f"{path}: the header announces {header.get('images')} images but {len(captions)} follow; "
            "the file is incomplete, write or copy it again"
        )
    return CaptionStore(captions, header, path, names, tags)


def identity(image_id: str, path: Path) -> str:
    """Return an image's normalized id; raise UserError if it is not text."""
    return composed(forms.check_text(image_id, path, "an id"))


def captions_of(entry: object, path: Path, place: str) -> tuple[str, ...]:
    """Return the captions of an image's entry; raise UserError if there are none."""
    texts = entry.get("captions") if isinstance(entry, dict) else None
    if isinstance(texts, dict):
        texts = [*texts.values()]
    if not isinstance(texts, list) or not texts:
        raise UserError(
            f'{path}, {place}: expected an object with "captions": [at least one string], not {entry!r:.80}'
        )
    return strings(texts, path, f"{place}, captions")


def tags_of(image_id: str, entry: Any, path: Path) -> dict[str, tuple[str, ...]]:
    """Return the tags of an image's captions by its id; empty if they have none."""
    found = entry["captions"]
    return {image_id: strings([*found], path, f"{image_id}, tags")} if isinstance(found, dict) else {}


def strings(texts: object, path: Path, place: str) -> tuple[str, ...]:
    """Check a list of strings; raise UserError if it is invalid."""
    if not isinstance(texts, list):
        raise UserError(f"{path}, {place}: expected a list of strings, not {texts!r:.80}")
    for number, text in enumerate(texts, 1):
        if not isinstance(text, str):
            raise UserError(
                f"{path}, {place}: number {number} is {text!r:.80} ({type(text).__name__}), where a string belongs; "
                "write its text alone, in quotes"
            )
        forms.check_text(text, path, place)
    return tuple(texts)
