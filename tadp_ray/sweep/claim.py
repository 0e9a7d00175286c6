"""Keeps apart two sweeps at one remote address.

A lock of the operating system ends at its machine, and pyarrow, which reaches the address, cannot write an object only if there
is none yet. So each sweep first writes an object of its own, then lists all of them, and withdraws if there is another. Of two
sweeps, the one that listed later sees the other's object: they never both go on, though both may withdraw. This needs storage
that lists an object as soon as it is written, as S3, Google's and Microsoft's do.

A sweep that is suspended, or does not reach the address, is taken for a killed one after a while, and may be taken over. So each
sweep looks, before it writes its object again, whether that is still there, and ends if it is not. It may be deleted just after
the look, and so be written again. Therefore the sweep that takes over first names it in its own object, which the next look sees:
both go on for at most one period after the first reaches the address again.

An object's name is `FOLDER.SWEEP`, both drawn: the first once for a storage folder, whose next sweep takes over what a killed one
has left, the second for every sweep, since the folder may have been copied to a machine where another sweep runs.
"""

import json
import logging
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

from tadp_ray.errors import UserError
from tadp_ray.files import write_text
from tadp_ray.layout import SWEEP_CLAIMS, SWEEP_OWNER
from tadp_ray.sweep.address import REMOTE_ERRORS, Remote, unusable
from tadp_ray.sweep.interruption import interrupted_if
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
    """Keep other sweeps from an address during the block, which is interrupted if one takes over all the same.

    Args:
        address: the remote storage.
        folder: the local copy, whose lock this process holds. A claim that a killed sweep of this folder left is taken over.

    Raises:
        UserError: another sweep uses the address, was killed there, or has taken over; or the address cannot be read or written.
    """
    remote, kin = Remote(address), owner(folder)
    own = f"{SWEEP_CLAIMS}/{kin}.{uuid.uuid4().hex}"
    process = {"process": os.getpid(), "identity": process_identity(os.getpid())}
    said: dict[str, Any] = {"host": os.uname().nodename, **process, "since": time.time(), "replaces": []}

    def write() -> None:
        remote.write(BytesIO(json.dumps(said).encode()), own)

    def renew() -> str | None:
        if other := successor(remote, own):
            return f"compute.storage {address}: {other}"
        write()
        return None

    try:
        remote.make_folder(SWEEP_CLAIMS)
    except REMOTE_ERRORS as error:
        raise unusable(remote.address, error) from None
    try:
        try:
            write()
            other, said["replaces"] = rival(remote, own, kin)
            if other:
                raise UserError(f"compute.storage {address}: {other}")
            if said["replaces"]:
                write()
            for name in said["replaces"]:
                remote.delete(name)
        except REMOTE_ERRORS as error:
            raise unusable(remote.address, error) from None
        with interrupted_if(renew, PERIOD, REMOTE_ERRORS):
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


def rival(remote: Remote, own: str, kin: str) -> tuple[str | None, list[str]]:
    """Return what another claim says, and what to do, or None; and the claims of killed sweeps of `kin`."""
    killed = []
    for other, said in read_claims(remote, [name for name in claims(remote) if name != own]).items():
        # Both times are of the storage's clock; a storage without times has only living sweeps.
        now, last = remote.mtimes([own, other])
        silence = (now - last) / 1e9 if now and last else 0
        is_kin, lives = Path(other).name.startswith(f"{kin}."), is_alive(said)
        if is_kin and (lives is False or (lives is None and silence >= TIMEOUT)):
            killed.append(other)
            continue
        who = f"another sweep uses it, {told(other, said)}"
        if silence < TIMEOUT:
            soon = f", in {TIMEOUT / 60:.0f} minutes if it was killed" if is_kin and now and last and not lives else ""
            return f"{who}; wait for it or stop it, then run this again{soon}", []
        who += f", and has given no sign of life for {silence / 60:.0f} minutes"
        if said and lives:
            return f"{who}, but it has not ended; end it with `kill -KILL {said['process']}`, then run this again", []
        return f"{who}; if it has ended, delete {other} there, then run this again", []
    return None, killed


def successor(remote: Remote, own: str) -> str | None:
    """Return which sweep has taken over from that of a claim, and what to do; None if none has."""
    names = claims(remote)
    others = read_claims(remote, [name for name in names if name != own])
    takers = {other: said for other, said in others.items() if said and own in said.get("replaces", ())}
    if own in names and not takers:
        return None
    found = [told(other, said) for other, said in (takers or others).items()]
    who = f"another sweep took over, {found[0]}" if found else "another sweep took over, and has ended since"
    return (
        f"{who}: this one had given no sign of life for {TIMEOUT / 60:.0f} minutes (suspended, or cut off), or {own} was "
        "deleted; this one ends, and when no other sweep runs there the same command resumes"
    )


def claims(remote: Remote) -> list[str]:
    """Return the names of all claims."""
    return [f"{SWEEP_CLAIMS}/{name}" for name in remote.names(SWEEP_CLAIMS)]


def read_claims(remote: Remote, names: Sequence[str]) -> dict[str, dict[str, Any] | None]:
    """Return by name what claims say, None for one that is not whole; those that are gone by now are left out."""
    found = {}
    for name in names:
        with suppress(FileNotFoundError):
            found[name] = read_claim(remote, name)
    return found


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


def told(name: str, said: dict[str, Any] | None) -> str:
    """Return which process wrote a claim."""
    if said is None:
        return f"whose {name} is not readable"
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(said["since"]))
    return f"process {said['process']} on {said['host']} since {since}"


def is_alive(said: dict[str, Any] | None) -> bool | None:
    """Return whether the process that wrote a claim is alive; None if it ran where this one does not see it."""
    space = process_space()
    if said is None or said["identity"] is None or space is None or not said["identity"].startswith(f"{space} "):
        return None
    return process_identity(said["process"]) == said["identity"]
