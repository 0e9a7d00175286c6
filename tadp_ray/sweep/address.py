"""A folder on remote storage, such as `s3://bucket/folder`. Files there are written as a whole and never appended to."""

import logging
import math
import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from pyarrow import ArrowException
from pyarrow.fs import FileSelector, FileSystem, FileType, PyFileSystem

from tadp_ray.errors import UserError
from tadp_ray.files import FULL, drafted
from tadp_ray.layout import CELLS, SWEEP_MARK

log = logging.getLogger(__name__)

T = TypeVar("T")

CHUNK = 16 * 2**20
LARGEST_COPY = 5 * 2**30
"""Bytes that S3 copies at once; it renames by copying."""
PATIENCE, RETRY_SECONDS = 300.0, 2.0
"""For how long, and how often, what must not be left undone is tried again."""
REMOTE_ERRORS = (OSError, ArrowException)
"""Exceptions of an unreachable address."""


class FullDiskError(UserError):
    """This machine's disk is full, for which the address can do nothing."""


def remote_path(folder: Path) -> str:
    """Return the path of a cell's folder below the address."""
    return f"{CELLS}/{folder.name}"


def sizes_of(remote: "Remote", name: str, folders: Sequence[Path]) -> dict[Path, int]:
    """Return the sizes in bytes of the files of one name in cells' folders, by folder, of those that are at the address.

    Each one that is asked about costs a request, so only cells that have a folder there are.
    """
    begun = remote.folders(CELLS)
    own = [folder for folder in folders if folder.name in begun]
    sizes = remote.sizes([f"{remote_path(folder)}/{name}" for folder in own])
    return {folder: size for folder, size in zip(own, sizes, strict=True) if size}


def retry(address: str, purpose: str, action: Callable[[], T]) -> T:
    """Do at an address what must not be left undone, again and again for `PATIENCE` seconds after it first failed.

    Args:
        address: for the messages.
        purpose: what the action is to do, in words that follow "to".
        action: does it; may be called again after it has failed half-way.

    Raises:
        UserError: the address could not be used for so long, or this machine's disk is full.
    """
    deadline = math.inf
    while True:
        try:
            return action()
        except FullDiskError:
            raise
        # Of fsspec's file systems, each has exceptions of its own.
        except Exception as error:
            if deadline == math.inf:
                log.warning(
                    "waiting for compute.storage %s, to %s (%s); tried again for %g minutes",
                    *(address, purpose, error, PATIENCE / 60),
                )
            # An upload may take longer than that, and fail at its end.
            deadline = min(deadline, time.monotonic() + PATIENCE)
            if time.monotonic() > deadline:
                raise error if isinstance(error, UserError) else unusable(address, error) from None
            time.sleep(RETRY_SECONDS)


def unusable(address: str, cause: Exception) -> UserError:
    """Return the error of an address that cannot be used."""
    return UserError(
        f"compute.storage {address}: cannot be read or written ({cause}); check its name, your permissions and "
        "the credentials in the environment, then run this again"
    )


def reach(address: str) -> "Remote":
    """Open an address, and wait if it cannot be reached: S3 is asked for the bucket's region.

    Raises:
        UserError: it could not be opened for minutes.
    """
    return retry(address, "open it", lambda: Remote(address))


class Remote:
    """A folder on remote storage.

    Raises:
        UserError: no file system has such an address.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        try:
            self.files, self.path = FileSystem.from_uri(address)
        except (ValueError, ImportError, *REMOTE_ERRORS) as error:
            raise UserError(
                f"compute.storage {address}: {error}; name a folder, an address of pyarrow's (s3://, gs://, abfs://, "
                "hdfs://), or fsspec+NAME:// with one of fsspec's"
            ) from None

    def write_marker(self) -> None:
        """Write a marker file, by which nodes show that they reach this folder.

        Raises:
            UserError: the address cannot be written.
        """
        try:
            self.make_folder("")
            self.replace(BytesIO(os.uname().nodename.encode()), SWEEP_MARK)
        except REMOTE_ERRORS as error:
            raise unusable(self.address, error) from None

    def make_folder(self, name: str) -> None:
        """Make a folder. Object stores have no folders and keep a placeholder."""
        self.files.create_dir(f"{self.path}/{name}", recursive=True)

    def has_marker(self) -> bool:
        """Return whether this machine sees the marker file."""
        with suppress(*REMOTE_ERRORS):
            return self._look(f"{self.path}/{SWEEP_MARK}").type is FileType.File
        return False

    def _look(self, what: Any) -> Any:
        """Return pyarrow's facts on files as they are now: file systems of fsspec's may remember what they saw first."""
        if isinstance(self.files, PyFileSystem):
            self.files.handler.fs.invalidate_cache()
        return self.files.get_file_info(what)

    def sizes(self, names: Sequence[str]) -> list[int]:
        """Return the sizes of files in bytes; 0 for missing files."""
        return [info.size or 0 for info in self._look([f"{self.path}/{name}" for name in names])]

    def mtimes(self, names: Sequence[str]) -> list[int | None]:
        """Return the modification times of files in nanoseconds of the storage's clock; None for missing files."""
        return [info.mtime_ns for info in self._look([f"{self.path}/{name}" for name in names])]

    def read(self, name: str) -> bytes:
        """Return the content of a small file."""
        with self.files.open_input_stream(f"{self.path}/{name}") as stream:
            return stream.read()

    def names(self, folder: str) -> list[str]:
        """Return the sorted names of the files in a folder, without drafts."""
        found = self._look(FileSelector(f"{self.path}/{folder}", allow_not_found=True))
        return sorted(info.base_name for info in found if info.type is FileType.File and info.extension != "part")

    def folders(self, folder: str) -> set[str]:
        """Return the names of the folders in a folder. An object store lists a thousand in one request."""
        found = self._look(FileSelector(f"{self.path}/{folder}", allow_not_found=True))
        return {info.base_name for info in found if info.type is FileType.Directory}

    def fetch(self, name: str, target: Path) -> None:
        """Download a file atomically."""
        with self.files.open_input_stream(f"{self.path}/{name}") as stream, drafted(target) as draft:
            try:
                with draft.open("wb") as file:
                    shutil.copyfileobj(stream, file, CHUNK)
            except OSError as error:
                if error.errno in FULL:
                    raise FullDiskError(f"{target}: {error.strerror}; make room, then run this again") from None
                raise

    def write(self, source: BinaryIO, name: str) -> None:
        """Write a file into an existing folder."""
        with self.files.open_output_stream(f"{self.path}/{name}") as stream:
            shutil.copyfileobj(source, stream, CHUNK)

    def replace(self, source: BinaryIO, name: str) -> None:
        """Write a file; an older one stays until the new one is complete.

        So it does in S3 without a draft, too: objects are seen when they are complete. What cannot be renamed there has none.
        """
        size = source.seek(0, os.SEEK_END)
        source.seek(0)
        if size > LARGEST_COPY and self.files.type_name == "s3":
            self.write(source, name)
            return
        draft, target = f"{self.path}/{name}.part", f"{self.path}/{name}"
        self.write(source, f"{name}.part")
        try:
            self.files.move(draft, target)
        except NotImplementedError:
            # Accounts of Azure without a hierarchical namespace cannot rename; a copy is seen when it is complete, too.
            self.files.copy_file(draft, target)
            self.files.delete_file(draft)

    def delete_folder(self, name: str) -> None:
        """Delete a folder if it exists.

        Raises:
            UserError: the address cannot be written.
        """
        try:
            with suppress(FileNotFoundError):
                self.files.delete_dir(f"{self.path}/{name}")
        except REMOTE_ERRORS as error:
            raise unusable(self.address, error) from None

    def delete(self, name: str) -> None:
        """Delete a file if it exists."""
        with suppress(FileNotFoundError):
            self.files.delete_file(f"{self.path}/{name}")
