"""Keeps apart two sweeps at one remote address.

A lock of the operating system ends at its machine, and pyarrow, which reaches the address, cannot write an object only if there
is none yet. So each sweep first writes an object of its own, then lists all of them, and withdraws if there is another. Of two
sweeps, the one that listed later sees the other's object: they never both go on, though both may withdraw. This needs storage
that lists an object as soon as it is written, as S3, Google's and Microsoft's do.

An object's name is `FOLDER.SWEEP`, both drawn: the first once for a storage folder, whose next sweep takes over what a killed one
has left, the second for every sweep, since the folder may have been copied to a machine where another sweep runs.
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
from typing import Any

from tadp_ray.errors import UserError
from tadp_ray.files import write_text
from tadp_ray.layout import SWEEP_CLAIMS, SWEEP_OWNER
from tadp_ray.sweep.address import REMOTE_ERRORS, Remote
from tadp_ray.sweep.periodic import run_periodically
from tadp_ray.sweep.process import process_identity, process_space

log = logging.getLogger(__name__)

PERIOD = 10.0
"""Seconds between two writes of a claim, by which others see that its sweep still runs."""
TIMEOUT = 120.0
"""Seconds without a write after which a sweep is taken for a killed one."""
READS = 5
"""How often a claim is read that is not whole, since some storage shows an object while it is written."""
PAUSE = 0.5
"""Seconds between two of these reads."""


@contextmanager
def claimed(address: str, folder: Path) -> Iterator[None]:
    """Keep other sweeps from an address during the block.

    Args:
        address: the remote storage.
        folder: the local copy, whose lock this process holds. A claim that a killed sweep of this folder left is taken over.

    Raises:
        UserError: another sweep uses the address, or was killed there; or the address cannot be read or written.
    """
    remote, kin = Remote(address), owner(folder)
    own = f"{SWEEP_CLAIMS}/{kin}.{uuid.uuid4().hex}"
    process = {"process": os.getpid(), "identity": process_identity(os.getpid())}
    content = json.dumps({"host": os.uname().nodename, **process, "since": time.time()}).encode()

    def write() -> None:
        remote.write(BytesIO(content), own)

    try:
        remote.make_folder(SWEEP_CLAIMS)
    except REMOTE_ERRORS as error:
        raise remote.error(error) from None
    try:
        try:
            write()
            other = rival(remote, own, kin)
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
    """Return what the names of the claims of a folder's sweeps begin with, drawn once and kept in the folder."""
    file = folder / SWEEP_OWNER
    if not file.is_file():
        write_text(file, uuid.uuid4().hex)
    return file.read_text(encoding="utf-8")


def rival(remote: Remote, own: str, kin: str) -> str | None:
    """Return what another claim says, and what to do; None if there is no other. Claims of killed sweeps of `kin` are deleted."""
    names = (f"{SWEEP_CLAIMS}/{name}" for name in remote.names(SWEEP_CLAIMS))
    for other in (name for name in names if name != own):
        try:
            said = read_claim(remote, other)
        except FileNotFoundError:
            continue  # its sweep has ended since
        # Both times are of the storage's clock; a storage without times has only living sweeps.
        now, last = remote.mtimes([own, other])
        silence = (now - last) / 1e9 if now and last else 0
        is_kin = Path(other).name.startswith(f"{kin}.")
        if is_kin and (silence >= TIMEOUT or has_ended(said)):
            remote.delete(other)
            continue
        who = f"another sweep uses it, {told(said) if said else f'whose {other} is not readable'}"
        if silence >= TIMEOUT:
            return (
                f"{who}, and has given no sign of life for {silence / 60:.0f} minutes; if it has ended, delete {other} "
                "there, then run this again"
            )
        killed = f", in {TIMEOUT / 60:.0f} minutes if it was killed" if is_kin and now and last else ""
        return f"{who}; wait for it or stop it, then run this again{killed}"
    return None


def read_claim(remote: Remote, name: str) -> dict[str, Any] | None:
    """Return what a claim says; None if it is not whole, also when read again.

    Raises:
        FileNotFoundError: there is none.
    """
    for left in reversed(range(READS)):
        try:
            said = json.loads(remote.read(name))
            if isinstance(said, dict) and {"host", "process", "identity", "since"} <= said.keys():
                return said
        except ValueError:
            pass
        if left:
            time.sleep(PAUSE)
    return None


def told(said: dict[str, Any]) -> str:
    """Return which process wrote a claim."""
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(said["since"]))
    return f"process {said['process']} on {said['host']} since {since}"


def has_ended(said: dict[str, Any] | None) -> bool:
    """Return whether the process that wrote a claim is known to have ended, since it ran where this one would see it."""
    space = process_space()
    if said is None or said["identity"] is None or space is None:
        return False
    return said["identity"].startswith(f"{space} ") and process_identity(said["process"]) != said["identity"]
