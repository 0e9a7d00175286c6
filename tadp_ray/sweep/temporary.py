"""Where Ray, and who trains, keep the sockets by which processes of one machine talk to each other."""

import os
import tempfile
from pathlib import Path

from ray._common.utils import get_default_ray_temp_dir

from tadp_ray.errors import UserError

LONGEST = 107
"""Bytes that the path of a socket may have on Linux."""
SOCKET = "/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store.1234"
"""What Ray puts behind its folder; loader processes put less behind theirs."""
SHORT = Path("/tmp")  # noqa: S108 - Ray's and Python's own choice


def shorten_temporary_folder() -> None:
    """Choose a short folder for what is temporary where TMPDIR or RAY_TMPDIR is too long for a socket.

    Raises:
        UserError: the short one cannot be written.
    """
    if fits(get_default_ray_temp_dir()) and fits(tempfile.gettempdir()):
        return
    if not os.access(SHORT, os.W_OK | os.X_OK):
        raise UserError(
            f"TMPDIR or RAY_TMPDIR: {tempfile.gettempdir()} is too long a path for Ray's sockets, and {SHORT} cannot be "
            "written; set TMPDIR to a folder with a short path"
        )
    os.environ["TMPDIR"] = os.environ["RAY_TMPDIR"] = tempfile.tempdir = str(SHORT)


def fits(folder: str) -> bool:
    """Whether sockets below a folder can have their names."""
    return len(os.fsencode(folder + SOCKET)) <= LONGEST
