"""An index of a data set's files: sizes, classes and hashes, so that files are read again only if they have changed.

It is a file in the storage folder, one for all samples of the same folders that are read in the same way. A file counts as
unchanged while its size and its times are those of the index; `tadp-ray data check --deep` reads every file anew.
"""

import json
import logging
import os
import sys
import time
import zlib
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from tadp_ray.config.fingerprint import sha256_of
from tadp_ray.data.files import Layout, SampleFacts, measure
from tadp_ray.errors import UserError
from tadp_ray.files import FileState, file_digest, file_state, read_text, remember_digest, sha256_file, write_text
from tadp_ray.layout import DATA
from tadp_ray.plugins import plugin_code

log = logging.getLogger(__name__)

VERSION = 1
RECENT = 2 * 10**9
"""Nanoseconds. File systems tell times apart by two seconds at worst, so a file that is written this soon after it was read may
keep its time; it is not put into the index before it is older."""
Seen = tuple[int, int, int]
"""A `FileState` without the inode, which network file systems number anew."""


class IndexedSample(NamedTuple):
    """Facts on one sample, and the state of its files before they were read."""

    files: tuple[str, ...]
    """The image and its ground truth."""
    states: tuple[Seen, ...]
    """Of both."""
    digests: tuple[str, ...]
    """Sha256 of both."""
    found: SampleFacts


SAMPLES = TypeAdapter(dict[str, IndexedSample])


class Index:
    """The index of a layout's samples.

    Args:
        storage: the storage folder.
        layout: the samples; others of the same folders stay in the index.
        deep: read every file, whether it has changed or not.
    """

    def __init__(self, storage: Path, layout: Layout, *, deep: bool = False) -> None:
        self._layout, self._deep, self._began = layout, deep, time.time_ns()
        self._key = index_key(layout)
        self._path = storage / DATA / f"{self._key[:16]}.json"
        self._known = self._read()
        self._new: dict[str, IndexedSample] = {}
        self._damaged = False
        self.unnoticed: list[str] = []
        """Ids of the samples whose contents differ from the index, though neither their sizes nor their times do; only a deep
        look finds them."""

    def look(self, name: str) -> SampleFacts | str:
        """Return the facts on a sample, or its problem; its files are read if they have changed."""
        files = self._layout.images[name], self._layout.truths[name]
        try:
            states = tuple(map(file_state, files))
        except OSError:
            return measure(self._layout, name)
        paths, seen = tuple(map(os.path.abspath, files)), tuple(map(without_inode, states))
        known = self._known.get(name)
        same = known is not None and (known.files, known.states) == (paths, seen)
        if same and not self._deep:
            for file, state, digest in zip(files, states, known.digests, strict=True):
                remember_digest(file, state, digest)
            return known.found
        found = measure(self._layout, name)
        if isinstance(found, str):
            # What is known of files that were whole may be of the same sizes and times.
            self._damaged |= self._known.pop(name, None) is not None
            return found
        digests = tuple(map(sha256_file if self._deep else file_digest, files))
        if same and (known.digests, known.found) != (digests, found):
            self.unnoticed.append(name)
        self._new[name] = IndexedSample(paths, seen, digests, found)
        return found

    def save(self) -> None:
        """Write what was read, atomically; a folder that cannot be written is only a warning."""
        settled = {
            name: sample
            for name, sample in self._new.items()
            if max(modified for _, modified, _ in sample.states) < self._began - RECENT
        }
        if not settled and not self._damaged:
            return
        body = json.dumps({**self._known, **settled}, sort_keys=True, separators=(",", ":"))
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self._path, f"{json.dumps(self._header(body))}\n{body}\n")
        except OSError as error:
            log.warning("%s: cannot be written (%s); the data set will be read again", self._path, error.strerror)

    def _header(self, body: str) -> dict[str, Any]:
        return {"data_index": VERSION, "key": self._key, "crc32": zlib.crc32(body.encode())}

    def _read(self) -> dict[str, IndexedSample]:
        if not self._path.exists():
            return {}
        try:
            first, _, body = read_text(self._path).removesuffix("\n").partition("\n")
            if json.loads(first) != self._header(body):
                raise ValueError("it does not hold what was written")
            return SAMPLES.validate_json(body)
        except (UserError, ValueError) as error:
            log.warning("%s: damaged (%s); made afresh", self._path, error)
            return {}


def index_key(layout: Layout) -> str:
    """Return a hash of what the facts on a layout's files depend on, beside their contents: folders, rules, crowds and code."""
    folders = {os.path.dirname(os.path.abspath(path)) for path in chain(layout.images.values(), layout.truths.values())}
    modules = {sys.modules[getattr(read, "func", read).__module__].__file__ for read in (layout.read, layout.present)}
    code = sorted({*Path(__file__).parent.glob("*.py"), *(Path(file) for file in modules if file)})
    hashes = [file_digest(file) for file in code]
    rules = repr((layout.rules, layout.crowds))
    return sha256_of([sorted(folders), layout.classes, rules, hashes, plugin_code()])


def without_inode(state: FileState) -> Seen:
    """Return a state as the index holds it."""
    return state[1:]
