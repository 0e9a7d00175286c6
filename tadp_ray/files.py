"""Files are written whole or not at all: what reads them never meets half of one, whenever a process or a machine died."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


@contextmanager
def drafted(path: Path) -> Iterator[Path]:
    """A path to write to in this block, which takes the place of `path`, on the disk, when the block has ended well."""
    # Processes that write the same file at once have drafts of their own.
    draft = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield draft
        replace_on_disk(draft, path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def drafted_folder(folder: Path) -> Iterator[Path]:
    """A folder to write to in this block, whose files take their places in `folder` when the block has ended well.

    What else `folder` holds stays. One process at a time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # A killed process leaves its draft.
    for left in folder.glob(".tmp*/"):
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=".tmp", dir=folder) as name:
        draft = Path(name)
        yield draft
        for path in sorted(path for path in draft.rglob("*") if path.is_file()):
            target = folder / path.relative_to(draft)
            target.parent.mkdir(parents=True, exist_ok=True)
            replace_on_disk(path, target)


def replace_on_disk(draft: Path, path: Path) -> None:
    """Put a whole file in the place of another; after a power cut there is one or the other, and never an empty one."""
    sync(draft)
    draft.replace(path)
    # Some network file systems cannot sync a folder; there is nothing more to be done on them.
    with suppress(OSError):
        sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_draft(path: Path) -> bool:
    """Whether a file is a draft, ours or that of safetensors, which writes one of its own; a killed process leaves it."""
    return path.suffix == ".part" or path.name.startswith(".tmp")


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all, with the line ends that the text has."""
    with drafted(path) as draft:
        draft.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole or not at all."""
    write_text(path, json.dumps(value, indent=1) + "\n")
