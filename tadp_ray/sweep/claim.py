"""Keeps apart two sweeps at one remote address.

A lock of the operating system ends at its machine, and pyarrow, which reaches the address, cannot write an object only if there
is none yet. So each sweep first writes an object of its own, then lists all of them, and withdraws if there is another. Of two
sweeps, the one that listed later sees the other's object: they never both go on, though both may withdraw. This needs storage
that lists an object as soon as it is written, as S3, Google's and Microsoft's do.
"""

import json
import logging
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from tadp_ray.errors import UserError
from tadp_ray.files import write_text
from tadp_ray.layout import SWEEP_CLAIMS, SWEEP_OWNER
from tadp_ray.sweep.address import REMOTE_ERRORS, Remote
from tadp_ray.sweep.periodic import run_periodically

log = logging.getLogger(__name__)

PERIOD = 10.0
"""Seconds between two writes of a claim, by which others see that its sweep still runs."""
TIMEOUT = 120.0
"""Seconds without a write after which a sweep is taken for a killed one."""


@contextmanager
def claimed(address: str, folder: Path) -> Iterator[None]:
    """Keep other sweeps from an address during the block.

    Args:
        address: the remote storage.
        folder: the local copy, whose lock this process holds. A claim that a killed sweep of this folder left is taken over.

    Raises:
        UserError: another sweep uses the address, or was killed there; or the address cannot be read or written.
    """
    remote, own = Remote(address), f"{SWEEP_CLAIMS}/{owner(folder)}"
    content = json.dumps({"host": os.uname().nodename, "process": os.getpid(), "since": time.time()}).encode()

    def write() -> None:
        remote.write(BytesIO(content), own)

    try:
        try:
            remote.make_folder(SWEEP_CLAIMS)
            write()
            other = rival(remote, own)
        except REMOTE_ERRORS as error:
            raise remote.error(error) from None
        if other:
            raise UserError(f"compute.storage {address}: {other}")
        with run_periodically(PERIOD, write, REMOTE_ERRORS):
            yield
    finally:
        try:
            remote.delete(own)
        except REMOTE_ERRORS as error:
            log.warning("compute.storage %s: %s could not be deleted (%s)", address, own, error)


def owner(folder: Path) -> str:
    """Return the name of the claims of a folder's sweeps, drawn once and kept in the folder."""
    file = folder / SWEEP_OWNER
    if not file.is_file():
        write_text(file, uuid.uuid4().hex)
    return file.read_text(encoding="utf-8")


def rival(remote: Remote, own: str) -> str | None:
    """Return what another claim says, and what to do; None if there is no other."""
    others = [name for name in remote.names(SWEEP_CLAIMS) if f"{SWEEP_CLAIMS}/{name}" != own]
    for name in others:
        other = f"{SWEEP_CLAIMS}/{name}"
        try:
            said = json.loads(remote.read(other))
        except FileNotFoundError:
            continue  # its sweep has ended since
        # Both times are of the storage's clock; a storage without times has only living sweeps.
        now, last = remote.mtimes([own, other])
        silence = (now - last) / 1e9 if now and last else 0
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(said["since"]))
        who = f"another sweep uses it, process {said['process']} on {said['host']} since {since}"
        if silence < TIMEOUT:
            return f"{who}; wait for it or stop it, then run this again"
        return (
            f"{who}, and has given no sign of life for {silence / 60:.0f} minutes; if it has ended, delete {other} "
            "there, then run this again"
        )
    return None
