"""Chooses temporary folders whose paths are short enough for the sockets of Ray and of data loaders."""

import os
import tempfile
from pathlib import Path

from ray._common.utils import get_default_ray_temp_dir

from tadp_ray.errors import UserError

MAX_SOCKET_PATH = 107
"""Bytes, the limit of Linux."""
RAY_SUFFIX = "/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store.1234"
"""That Ray appends to its folder."""
LOADER_SUFFIX = "/torch-shm-dir-abcdefgh/manager.sock.1234"
"""That loader processes append to theirs, with a margin."""
SHORT_FOLDER = Path("/tmp")  # noqa: S108 - Ray's and Python's own choice


def shorten_temporary_folder() -> None:
    """Replace TMPDIR and RAY_TMPDIR by a short folder if their paths are too long for a socket.

    Raises:
        UserError: the short folder cannot be written.
    """
    if not fits(tempfile.gettempdir() + LOADER_SUFFIX):
        os.environ["TMPDIR"] = tempfile.tempdir = short_folder("TMPDIR", tempfile.gettempdir())
    # Ray uses TMPDIR if RAY_TMPDIR is not set.
    if not fits(get_default_ray_temp_dir() + RAY_SUFFIX):
        os.environ["RAY_TMPDIR"] = short_folder("RAY_TMPDIR", get_default_ray_temp_dir())


def short_folder(variable: str, folder: str) -> str:
    """Return the short folder that replaces a long one.

    Raises:
        UserError: the short folder cannot be written.
    """
    if not os.access(SHORT_FOLDER, os.W_OK | os.X_OK):
        raise UserError(
            f"{folder} is too long a path for sockets, and {SHORT_FOLDER} cannot be written; set {variable} to a folder with a "
            "short path"
        )
    return str(SHORT_FOLDER)


def fits(socket: str) -> bool:
    """Return whether a path is short enough for a socket."""
    return len(os.fsencode(socket)) <= MAX_SOCKET_PATH
