"""Who must live for a sweep to end: Ray's node on this machine, and the processes that train. Ray itself waits for ever."""

import json
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tadp_ray.config.cell import Cell
from tadp_ray.errors import UserError
from tadp_ray.files import write_json
from tadp_ray.layout import ALIVE
from tadp_ray.sweep.address import LOST, Remote, place
from tadp_ray.sweep.periodic import run_periodically

log = logging.getLogger(__name__)

PERIOD = 5.0
"""Seconds between two signs of life, and between two looks."""
LIMIT = 600.0
"""Seconds without a sign of life after which a training process is killed. It needs no speed to be known, as a thread gives
the signs while a step, an evaluation or a download takes its time; only a process that is stopped gives none."""
CLEANING = 90.0
"""Seconds for which a block that is left tells MLflow and closes files; then, if it waits for the node, it is left again."""


class NodeDied(BaseException):
    """Ray's node on this machine is gone. No Exception: nobody on the way is to take it for one of a cell's."""


@contextmanager
def on_living_node() -> Iterator[None]:
    """Run a block that asks Ray for things, as long as Ray's node on this machine lives.

    Raises:
        UserError: it died, and the block, which would have waited without end, was left.
    """

    def die(*_: object) -> None:
        nonlocal left
        left = True
        raise NodeDied

    def look() -> None:
        nonlocal told
        if node_died() and time.monotonic() - told > CLEANING:
            told = time.monotonic()
            signal.pthread_kill(main, signal.SIGUSR2)

    left, told = False, float("-inf")
    main, before = threading.get_ident(), signal.signal(signal.SIGUSR2, die)
    try:
        with run_periodically(PERIOD, look, (RayError,)):
            yield
    except BaseException:
        # Out of Ray's compiled code the interruption comes as another error.
        if not left:
            raise
        raise UserError(
            "Ray on this machine has died: it was killed, or the machine ran out of memory; nothing that was trained is lost, "
            "the same command goes on from here"
        ) from None
    finally:
        signal.signal(signal.SIGUSR2, before)


def node_died() -> bool:
    """Whether Ray's processes on this machine are gone, of which the others only wait for an answer."""
    node = ray._private.worker.global_worker.node
    if node is not None and node.is_head():
        return any(kind in ("raylet", "gcs_server") for kind, _ in node.dead_processes())
    here = ray.get_runtime_context().get_node_id()
    return any(known["NodeID"] == here and not known["Alive"] for known in ray.nodes())


@contextmanager
def beating(folder: Path) -> Iterator[None]:
    """Give signs of life of a training process, in the folder of its cell, during this block."""
    file = folder / ALIVE

    def beat() -> None:
        write_json(file, {"node": ray.get_runtime_context().get_node_id(), "pid": os.getpid()})

    folder.mkdir(parents=True, exist_ok=True)
    beat()
    try:
        # A full disk, or a storage that is away for a moment, is told by the training itself.
        with run_periodically(PERIOD, beat, (OSError,)):
            yield
    finally:
        file.unlink(missing_ok=True)


@contextmanager
def watched(cells: Sequence[Cell]) -> Iterator[None]:
    """End training processes that give no sign of life, so that Ray restarts them."""
    address = cells[0].recipe.compute.address
    remote = Remote(address) if address else None
    last: dict[Path, tuple[int, int]] = {}
    """By cell: time of the last sign of life, how many looks have found the same. A pause of this machine is no look."""

    def look() -> None:
        for cell, beat in zip(cells, beats(cells, remote), strict=True):
            if beat is None:
                last.pop(cell.folder, None)
                continue
            # Clocks of nodes differ: what counts is that the time has changed.
            known, looks = last.get(cell.folder, (beat, 0))
            last[cell.folder] = beat, looks + 1 if beat == known else 0
            if last[cell.folder][1] * PERIOD > LIMIT:
                last[cell.folder] = beat, 0
                end(remote.read(f"{place(cell.folder)}/{ALIVE}") if remote else (cell.folder / ALIVE).read_bytes())

    with run_periodically(PERIOD, look, (RayError, ValueError, *LOST)):
        yield


def beats(cells: Sequence[Cell], remote: Remote | None) -> list[int | None]:
    """When cells' training processes have given their last signs of life; None: nobody trains it."""
    if remote:
        return remote.written([f"{place(cell.folder)}/{ALIVE}" for cell in cells])
    files = [cell.folder / ALIVE for cell in cells]
    return [file.stat().st_mtime_ns if file.is_file() else None for file in files]


def end(sign: bytes) -> None:
    """Kill the training process that has given a sign of life and gives none any more."""
    known = json.loads(sign)
    there = NodeAffinitySchedulingStrategy(known["node"], soft=False)
    if ray.get(kill.options(scheduling_strategy=there).remote(known["pid"]), timeout=120):
        log.warning(
            "a training process gave no sign of life for %g seconds (process %s): it was ended", LIMIT, known["pid"]
        )


@ray.remote(num_cpus=0, max_retries=0)
def kill(pid: int) -> bool:
    """Kill a process of Ray's on this node; returns whether it was there."""
    names = Path(f"/proc/{pid}/cmdline")
    # Its number may have been given to another one meanwhile.
    if not names.is_file() or not names.read_bytes().startswith(b"ray::"):
        return False
    os.kill(pid, signal.SIGKILL)
    return True
