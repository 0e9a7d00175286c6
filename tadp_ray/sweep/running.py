"""The sweep that runs on a storage folder: its mark beside the lock, by which other commands show and stop it."""

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from tadp_ray.errors import UserError
from tadp_ray.files import is_locked, write_json
from tadp_ray.layout import SWEEP_LOCK, SWEEP_PROCESS
from tadp_ray.sweep.process import process_identity

STOP_SECONDS = 180.0
"""How long a command that was told to stop may take to end its trainings and close MLflow's runs."""


@dataclass(frozen=True)
class RunningSweep:
    """A sweep that is running now."""

    pid: int
    host: str
    """Name of its machine. It is in this file alone, and gone with it."""
    stop_signal: int
    """Which ends it as Ctrl-C does."""
    name: str
    scale: str
    run_id: str
    """Of the sweep, in MLflow."""
    started: float
    """Unix seconds."""
    process: str | None
    """What a later process with its id does not have; None where the system does not tell it."""


@contextmanager
def announced(storage: Path, name: str, scale: str, run_id: str) -> Iterator[None]:
    """Name this process in the storage folder as the one that runs a sweep there, during the block; it holds the lock."""
    # Commands end cleanly on SIGTERM; a Python program of the user's own does on SIGINT, if it handles neither.
    handled = callable(signal.getsignal(signal.SIGTERM))
    stop = signal.SIGTERM if handled else signal.SIGINT
    own = process_identity(os.getpid())
    mark = RunningSweep(os.getpid(), socket.gethostname(), stop, name, scale, run_id, time.time(), own)
    write_json(storage / SWEEP_PROCESS, asdict(mark))
    try:
        yield
    finally:
        (storage / SWEEP_PROCESS).unlink(missing_ok=True)


def running_sweep(storage: Path) -> RunningSweep | None:
    """Return the sweep that runs on a storage folder; None if none does, or it has only just begun."""
    # A killed sweep leaves its mark, but not its lock. Another command may hold that, and another process have its id.
    if not is_locked(storage / SWEEP_LOCK):
        return None
    try:
        found = RunningSweep(**json.loads((storage / SWEEP_PROCESS).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    here = found.host == socket.gethostname()
    return None if here and found.process and found.process != process_identity(found.pid) else found


def stop_sweep(storage: Path) -> RunningSweep:
    """End the sweep that runs on a storage folder as Ctrl-C does, wait for its end, and return what it was.

    Raises:
        UserError: none runs, it runs on another machine or as another user, or it has not ended after `STOP_SECONDS`.
    """
    found = running_sweep(storage)
    if found is None:
        where = (
            f"{storage}: another command has only just begun here; try again" if is_locked(storage / SWEEP_LOCK) else ""
        )
        raise UserError(where or f"{storage}: no sweep is running here; name the folder of another one with --storage")
    if found.host != socket.gethostname():
        raise UserError(
            f"{storage}: {found.name} runs on another machine, {found.host} (process {found.pid}); run this command there"
        )
    try:
        os.kill(found.pid, found.stop_signal)
    except (ProcessLookupError, PermissionError) as error:
        raise UserError(
            f"{storage}: {found.name} cannot be stopped from here (process {found.pid}: {error.strerror}); stop it where it "
            "was started"
        ) from None
    deadline = time.monotonic() + STOP_SECONDS
    while is_locked(storage / SWEEP_LOCK):
        if time.monotonic() > deadline:
            raise UserError(f"{storage}: {found.name} (process {found.pid}) was told to stop, and is still at it; wait")
        time.sleep(0.2)
    return found
