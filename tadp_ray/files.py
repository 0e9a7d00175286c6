"""Files: written whole or not at all, also when a machine dies; read, or named with what is wrong with them."""

import codecs
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from tadp_ray.errors import UserError

if TYPE_CHECKING:
    from filelock import BaseFileLock

BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""First bytes by which a text file tells its encoding; UTF-32 before UTF-16, whose mark it begins with."""

ENDINGS = frozenset(
    f".{ending}"
    for ending in "png jpg jpeg jpe jfif bmp dib gif tif tiff webp ppm pgm pbm pnm jp2 j2k avif heic heif tga npy xml".split()
)
"""Endings of images and of what belongs to them; other text behind a dot is part of a name, as in frame_0.5s."""


DRAFT_FOLDER = ".tadp-draft-"
"""How the names of our draft folders begin. Nobody else's folders have such names; they are deleted."""
DRAFT_FILE = re.compile(r".+\.\d+\.part|\.tmp[A-Za-z0-9]{6}")
"""Names of draft files: ours, with the number of their process, and those of safetensors."""


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
    for left in folder.glob(f"{DRAFT_FOLDER}*/"):
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=DRAFT_FOLDER, dir=folder) as name:
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
    """Whether a path is a draft, which a killed process leaves: our file or folder, or a file that safetensors writes first."""
    return path.name.startswith(DRAFT_FOLDER) if path.is_dir() else bool(DRAFT_FILE.fullmatch(path.name))


def acquire_lock(path: Path, patience: float = 0.0) -> "BaseFileLock":
    """A lock that only this process holds, until it is released or the process dies.

    The file at `path` is made if need be and stays. A file system that has no locks of its kernel is refused: what stood
    for them would outlive a killed process.

    Raises:
        UserError: somebody else still holds the lock after `patience` seconds.
        OSError: the file cannot be written, or its file system has no locks.
    """
    # Most commands lock nothing.
    from filelock import FileLock, Timeout

    # Some are released by another thread than the one that took them.
    lock = FileLock(path, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire(timeout=patience, poll_interval=0.2)
    except Timeout:
        raise UserError(
            f"{path.parent}: another process is at work here; wait for it or stop it, then run this again"
        ) from None
    return lock


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all, with the line ends that the text has."""
    with drafted(path) as draft:
        draft.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole or not at all."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def composed(text: str) -> str:
    """Text in one spelling, Unicode NFC: macOS may write an accented letter as two characters where others write one."""
    return unicodedata.normalize("NFC", text)


def without_ending(name: str) -> str:
    """A file's name without the ending of an image."""
    ending = PurePosixPath(name).suffix
    return name.removesuffix(ending) if ending.lower() in ENDINGS else name


def why_unreadable(path: Path) -> str | None:
    """What keeps a path from being a file to read, and the mend; None: it is one."""
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        if isinstance(error, FileNotFoundError) and path.is_symlink():
            return f"is a link to {os.readlink(path)}, which is not there; mend the link, or take it away"
        return "there is no such file" if isinstance(error, FileNotFoundError) else f"cannot be opened ({error})"
    if stat.S_ISDIR(found.st_mode):
        return "is a folder, not a file; rename it or take it away"
    if not stat.S_ISREG(found.st_mode):
        return "is no regular file; replace it"
    if not os.access(path, os.R_OK):
        return "may not be read by you; change its permissions"
    return None


def read_text(path: Path) -> str:
    """A text file, in UTF-8 or what its byte order mark says.

    Raises:
        UserError: there is no such file, or it is no such text.
    """
    if why := why_unreadable(path):
        raise UserError(f"{path}: {why}")
    content = path.read_bytes()
    encoding = next((name for mark, name in BYTE_ORDER_MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"{path}: line {line} is not {encoding.upper()} text; save the file as UTF-8") from None
    if "\0" in text:
        raise UserError(
            f"{path}: holds zero bytes, as binary files and UTF-16 without a mark do; save it as UTF-8 text"
        )
    return text


def read_lines(path: Path) -> list[str]:
    """Lines of a text file without the spaces around them; blank ones are left out. A line ends with LF, CRLF or CR.

    Raises:
        UserError: as `read_text`'s.
    """
    # Not splitlines, which also cuts at characters that names may hold.
    lines = read_text(path).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [line.strip() for line in lines if line.strip()]


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, read once by a process as long as size and times of the file stay."""
    found = path.stat()
    return _digest(path, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@lru_cache(maxsize=1_000_000)
def _digest(path: Path, *state: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
