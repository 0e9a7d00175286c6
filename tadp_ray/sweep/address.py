"""A folder at an address, such as `s3://bucket/folder`: files there are written whole, and never grow."""

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from pyarrow import ArrowException
from pyarrow.fs import FileSelector, FileSystem, FileType

from tadp_ray.errors import UserError
from tadp_ray.files import drafted
from tadp_ray.layout import CELLS, RAY, SWEEP_MARK

CHUNK = 16 * 2**20
LOST = (OSError, ArrowException)
"""How an address fails."""


def place(folder: Path) -> str:
    """Where the address holds what a cell's folder holds."""
    return f"{CELLS}/{folder.name}"


class Remote:
    """A folder at an address.

    Raises:
        UserError: no file system is known by such an address.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        try:
            self.files, self.path = FileSystem.from_uri(address)
        except (ValueError, ImportError, *LOST) as error:
            raise UserError(
                f"compute.storage {address}: {error}; name a folder, an address of pyarrow's (s3://, gs://, abfs://, "
                "hdfs://), or fsspec+NAME:// with one of fsspec's"
            ) from None

    def claim(self) -> None:
        """Leave a file that the nodes are asked for.

        Raises:
            UserError: the address cannot be written.
        """
        try:
            self.make_folder("")
            self.write(BytesIO(os.uname().nodename.encode()), SWEEP_MARK)
        except LOST as error:
            raise self.away(error) from None

    def make_folder(self, name: str) -> None:
        """Make a folder; an object store, which has none, keeps a mark of it."""
        self.files.create_dir(f"{self.path}/{name}", recursive=True)

    def claimed(self) -> bool:
        """Whether that file is seen from here."""
        with suppress(*LOST):
            return self.files.get_file_info(f"{self.path}/{SWEEP_MARK}").type is FileType.File
        return False

    def tidy(self) -> None:
        """Delete what Ray Train kept there for itself."""
        with suppress(*LOST):
            self.files.delete_dir(f"{self.path}/{RAY}")

    def away(self, error: Exception) -> UserError:
        """What to say when the address fails."""
        return UserError(
            f"compute.storage {self._address}: not to be read and written ({error}); check its name, its rights and what "
            "the environment holds to reach it, then run this again"
        )

    def sizes(self, names: Sequence[str]) -> list[int]:
        """How many bytes files hold; 0 where there is none."""
        return [info.size or 0 for info in self.files.get_file_info([f"{self.path}/{name}" for name in names])]

    def written(self, names: Sequence[str]) -> list[int | None]:
        """When files were written, in nanoseconds of the address's clock; None where there is none."""
        return [info.mtime_ns for info in self.files.get_file_info([f"{self.path}/{name}" for name in names])]

    def read(self, name: str) -> bytes:
        """What a small file holds."""
        with self.files.open_input_stream(f"{self.path}/{name}") as stream:
            return stream.read()

    def names(self, folder: str) -> list[str]:
        """The files in a folder, in order."""
        found = self.files.get_file_info(FileSelector(f"{self.path}/{folder}", allow_not_found=True))
        return sorted(info.base_name for info in found if info.type is FileType.File and info.extension != "part")

    def fetch(self, name: str, target: Path) -> None:
        """Copy a file here, whole or not at all."""
        with self.files.open_input_stream(f"{self.path}/{name}") as stream, drafted(target) as draft:
            with draft.open("wb") as file:
                shutil.copyfileobj(stream, file, CHUNK)

    def write(self, source: BinaryIO, name: str) -> None:
        """Write a file into a folder that is there."""
        with self.files.open_output_stream(f"{self.path}/{name}") as stream:
            shutil.copyfileobj(source, stream, CHUNK)

    def replace(self, source: BinaryIO, name: str) -> None:
        """Write a file; the one that was there stays until the new one is whole."""
        self.write(source, f"{name}.part")
        self.files.move(f"{self.path}/{name}.part", f"{self.path}/{name}")

    def delete_folder(self, name: str) -> None:
        """Delete a folder, if it is there.

        Raises:
            UserError: the address cannot be written.
        """
        try:
            with suppress(FileNotFoundError):
                self.files.delete_dir(f"{self.path}/{name}")
        except LOST as error:
            raise self.away(error) from None

    def delete(self, name: str) -> None:
        """Delete a file, if it is there."""
        with suppress(FileNotFoundError):
            self.files.delete_file(f"{self.path}/{name}")
