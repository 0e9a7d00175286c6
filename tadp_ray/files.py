"""Writes files atomically, so that they are complete even after a crash, and reads files with clear errors."""

import codecs
import errno
import fcntl
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import stat
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING, Any

from tadp_ray.errors import UserError

if TYPE_CHECKING:
    from filelock import BaseFileLock

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Numbers of the errors of a full disk."""
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Encodings by their byte order marks; UTF-32 first, since its mark starts with that of UTF-16."""

ENDINGS = frozenset(
    f".{ending}"
    for ending in "png jpg jpeg jpe jfif bmp dib gif tif tiff webp ppm pgm pbm pnm jp2 j2k avif heic heif tga npy xml".split()
)
"""Extensions of image and annotation files; other text after a dot belongs to the name, as in frame_0.5s."""


UMASK = os.umask(0o077)
"""What this process's user denies to others; it can only be read by setting it."""
os.umask(UMASK)

DRAFT_FOLDER = ".tadp-draft-"
"""Prefix of our draft folders, which are deleted."""
DRAFT_FILE = re.compile(r".+\.\d+\.part|\.tmp[A-Za-z0-9]{6}")
"""Names of draft files: ours, with a random number, and those of safetensors."""


def user_cache() -> Path:
    """Return the folder for what this user's commands may make again at any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tadp_ray"


@contextmanager
def drafted(path: Path) -> Iterator[Path]:
    """Yield a path to write to, which replaces `path` when the block ends without an error."""
    # Several threads of one process, or machines that share the folder, may write the same file at once. Ids of threads are
    # alike on machines that start alike, and Python's own random numbers in processes of one seed.
    draft = path.with_name(f"{path.name}.{secrets.randbits(32)}.part")
    try:
        yield draft
        replace_on_disk(draft, path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def drafted_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder to write to, whose files are moved to `folder` when the block ends without an error.

    Other files in `folder` stay. Only one process may do this at a time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Drafts of killed processes.
    for draft in folder.glob(f"{DRAFT_FOLDER}*/"):
        shutil.rmtree(draft)
    with tempfile.TemporaryDirectory(prefix=DRAFT_FOLDER, dir=folder) as name:
        draft = Path(name)
        yield draft
        for path in sorted(path for path in draft.rglob("*") if path.is_file()):
            target = folder / path.relative_to(draft)
            target.parent.mkdir(parents=True, exist_ok=True)
            replace_on_disk(path, target)


def replace_on_disk(draft: Path, path: Path) -> None:
    """Replace a file by a complete one; after a power failure the old or the new file exists, never an empty one."""
    # Libraries make drafts that only their owner may read. Some file systems have no modes.
    with suppress(OSError):
        if stat.S_IMODE(draft.stat().st_mode) == 0o600:
            draft.chmod(0o666 & ~UMASK)
    sync(draft)
    draft.replace(path)
    # Some network file systems cannot sync a folder.
    with suppress(OSError):
        sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_any_of(path: Path, others: Iterable[Path]) -> bool:
    """Return whether a path is an existing file that one of other paths leads to, too."""
    return path.exists() and any(other.exists() and path.samefile(other) for other in others)


def is_draft(path: Path) -> bool:
    """Return whether a path is a draft that a killed process has left, ours or that of safetensors."""
    return path.name.startswith(DRAFT_FOLDER) if path.is_dir() else bool(DRAFT_FILE.fullmatch(path.name))


def folders_of(path: PurePath) -> tuple[str, ...]:
    """Return the folders of a path."""
    return tuple(part for part in path.parts[:-1] if part not in ("/", "."))


def acquire_lock(path: Path, patience: float = 0.0) -> "BaseFileLock":
    """Acquire a lock, which this process holds until it releases it or dies.

    The file at `path` is created if needed, and stays. The file system must have kernel locks, since a lock file alone would
    outlive a killed process.

    Raises:
        UserError: another process still holds the lock after `patience` seconds.
        OSError: the file cannot be written, or its file system has no locks.
    """
    # Most commands need no lock.
    from filelock import FileLock, Timeout

    # Some locks are released by another thread than the one that acquired them.
    lock = FileLock(path, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire(timeout=patience, poll_interval=0.2)
    except Timeout:
        raise UserError(
            f"{path.parent}: another process is using this folder; wait for it or stop it, then run this again"
        ) from None
    return lock


@contextmanager
def locked(path: Path, patience: float = 0.0) -> Iterator[None]:
    """Hold a lock during the block; arguments and errors are those of `acquire_lock`."""
    lock = acquire_lock(path, patience)
    try:
        yield
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Return whether another process holds a lock; nothing is created, and it may be another user's.

    Raises:
        OSError: the file cannot be read, or its file system has no locks.
    """
    if not path.is_file():
        return False
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, with its line ends unchanged."""
    with drafted(path) as draft:
        draft.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def finite(value: Any) -> Any:
    """Return JSON values with null for NaN and infinity, which JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(own) for key, own in value.items()}
    return [finite(own) for own in value] if isinstance(value, list | tuple) else value


def composed(text: str) -> str:
    """Normalize text to Unicode NFC, since macOS may write an accented letter as two characters."""
    return unicodedata.normalize("NFC", text)


def without_ending(name: str) -> str:
    """Return a file's name without an image extension."""
    ending = PurePosixPath(name).suffix
    return name.removesuffix(ending) if ending.lower() in ENDINGS else name


def why_unreadable(path: Path) -> str | None:
    """Return why a path is not a readable file and what to do; None if it is one."""
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        if isinstance(error, FileNotFoundError) and path.is_symlink():
            return f"is a link to {os.readlink(path)}, which does not exist; fix or remove the link"
        return "there is no such file" if isinstance(error, FileNotFoundError) else f"cannot be opened ({error})"
    if stat.S_ISDIR(found.st_mode):
        return "is a folder, not a file"
    if not stat.S_ISREG(found.st_mode):
        return "is not a regular file; replace it"
    if not os.access(path, os.R_OK):
        return "cannot be read; change its permissions"
    return None


def check_readable(path: Path) -> None:
    """Raise UserError if a path is not a readable file."""
    if why := why_unreadable(path):
        raise UserError(f"{path}: {why}")


def read_text(path: Path) -> str:
    """Read a text file, in UTF-8 or the encoding of its byte order mark.

    Raises:
        UserError: the file does not exist, or is not such text.
    """
    check_readable(path)
    content = path.read_bytes()
    encoding = next((name for mark, name in BYTE_ORDER_MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"{path}: line {line} is not {encoding.upper()} text; save the file as UTF-8") from None
    if "\0" in text:
        raise UserError(
            f"{path}: contains zero bytes, like binary files and UTF-16 without a mark; save it as UTF-8 text"
        )
    return text


def read_lines(path: Path) -> list[str]:
    """Read the stripped, non-empty lines of a text file. A line ends with LF, CRLF or CR.

    Raises:
        UserError: as `read_text`'s.
    """
    # Not splitlines, which also splits at characters that names may contain.
    lines = read_text(path).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [line.strip() for line in lines if line.strip()]


FileState = tuple[int, int, int, int]
"""Inode, size in bytes, and the times of the last change of contents and of anything, in nanoseconds."""


def file_state(path: Path) -> FileState:
    """Return a file's state, which every write changes.

    Raises:
        OSError: there is no such file, or it cannot be reached.
    """
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


_digests: dict[Path, tuple[FileState, str]] = {}
"""State and sha256 of the files that this process has hashed."""


def file_digest(path: Path) -> str:
    """Return the sha256 of a file, cached in this process until its size or times change."""
    state, known = file_state(path), _digests.get(path)
    if known is None or known[0] != state:
        known = _digests[path] = state, sha256_file(path)
    return known[1]


def code_digest(*roots: Path) -> str:
    """Return a hash (12 hex digits) of Python files and their names, of single ones and of all below folders."""
    parts = []
    for root in sorted(roots):
        files = sorted(root.rglob("*.py")) if root.is_dir() else [root]
        parts += [(str(file.relative_to(root.parent)), file.read_bytes()) for file in files]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def remember_digest(path: Path, state: FileState, digest: str) -> None:
    """Put a file's sha256, known from elsewhere, into the cache of `file_digest`."""
    _digests[path] = state, digest


def sha256_file(path: Path) -> str:
    """Return the sha256 of a file, which is read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
