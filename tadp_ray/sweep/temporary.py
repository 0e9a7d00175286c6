"""Where Ray, and who trains, keep the sockets by which processes of one machine talk to each other."""

import os
import tempfile
from pathlib import Path

from ray._common.utils import get_default_ray_temp_dir

from tadp_ray.errors import UserError

LONGEST = 107
"""Bytes that the path of a socket may have on Linux."""
SOCKET = "/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store.1234"
"""What Ray puts behind its folder."""
LOADERS = "/torch-shm-dir-abcdefgh/manager.sock.1234"
"""What loader processes put behind theirs, with some room."""
SHORT = Path("/tmp")  # noqa: S108 - Ray's and Python's own choice


def shorten_temporary_folder() -> None:
    """Choose a short folder for what is temporary where TMPDIR or RAY_TMPDIR is too long for a socket; the one that fits stays.

    Raises:
        UserError: the short one cannot be written.
    """
    if not fits(tempfile.gettempdir() + LOADERS):
        os.environ["TMPDIR"] = tempfile.tempdir = instead("TMPDIR", tempfile.gettempdir())
    # Ray takes TMPDIR where it has no variable of its own.
    if not fits(get_default_ray_temp_dir() + SOCKET):
        os.environ["RAY_TMPDIR"] = instead("RAY_TMPDIR", get_default_ray_temp_dir())


def instead(variable: str, folder: str) -> str:
    """The short folder that takes the place of a long one.

    Raises:
        UserError: it cannot be written.
    """
    if not os.access(SHORT, os.W_OK | os.X_OK):
        raise UserError(
            f"{folder} is too long a path for sockets, and {SHORT} cannot be written; set {variable} to a folder with a "
            "short path"
        )
    return str(SHORT)


def fits(socket: str) -> bool:
    """Whether a socket can have this path."""
    return len(os.fsencode(socket)) <= LONGEST
