"""Files are written whole or not at all: what reads them never meets half of one, whenever a process was killed."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def drafted(path: Path) -> Iterator[Path]:
    """A path to write to in this block, which takes the place of `path` when the block has ended well."""
    # Processes that write the same file at once have drafts of their own.
    draft = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


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
