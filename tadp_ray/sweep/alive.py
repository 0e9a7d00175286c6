"""Detects what Ray itself would wait for forever: a dead node, hung training processes, resources of workers that are gone."""

import itertools
import json
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from io import BytesIO
from pathlib import Path

import ray
from ray.core.generated.gcs_pb2 import PlacementGroupTableData
from ray.exceptions import RayError
from ray.util.placement_group import PlacementGroup, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tadp_ray.config.cell import Cell
from tadp_ray.files import write_json
from tadp_ray.layout import ALIVE
from tadp_ray.sweep.address import REMOTE_ERRORS, Remote, reach, remote_path, retry, sizes_of
from tadp_ray.sweep.interruption import interrupted_if
from tadp_ray.sweep.periodic import run_periodically
from tadp_ray.sweep.process import process_identity
from tadp_ray.training.journal import final_metrics

log = logging.getLogger(__name__)

PERIOD = 5.0
"""Seconds between two heartbeats, and between two checks."""
TIMEOUT = 600.0
"""Seconds without a heartbeat after which a training process is killed. A thread sends the heartbeats, so a slow step,
evaluation, download or upload does not delay them; only a stopped process sends none."""
NODE_DIED = (
    "Ray on this machine died: it was killed, or the machine ran out of memory; no training is lost, run the same command "
    "again to resume"
)


@contextmanager
def require_living_node() -> Iterator[None]:
    """Run a block that uses Ray; interrupt it when Ray's node on this machine dies.

    Raises:
        UserError: the node died.
    """
    with interrupted_if(lambda: NODE_DIED if node_died() else None, PERIOD, (RayError,)):
        yield


def node_died() -> bool:
    """Return whether Ray's processes on this machine are gone."""
    node = ray._private.worker.global_worker.node
    if node is not None and node.is_head():
        return any(kind in ("raylet", "gcs_server") for kind, _ in node.dead_processes())
    here = ray.get_runtime_context().get_node_id()
    return any(other["NodeID"] == here and not other["Alive"] for other in ray.nodes())


@contextmanager
def heartbeat(cell: Cell) -> Iterator[None]:
    """Write heartbeats of this training process to its cell's folder during the block, or to that at the storage's address.

    At an address they do not wait for a checkpoint that is being sent, which may take longer than `TIMEOUT`.

    Raises:
        UserError: the address could not be reached for minutes.
    """
    address, file = cell.recipe.compute.storage_address, cell.folder / ALIVE
    remote, path = reach(address) if address else None, f"{remote_path(cell.folder)}/{ALIVE}"
    pid = os.getpid()
    own = {"node": ray.get_runtime_context().get_node_id(), "pid": pid, "process": process_identity(pid)}

    def beat() -> None:
        # The time makes each one different: not every file system tells when a file was written.
        content = own | {"time": time.time()}
        if remote:
            remote.replace(BytesIO(json.dumps(content).encode()), path)
        else:
            write_json(file, content)

    if remote:
        retry(remote.address, f"make the folder of {cell.name}", lambda: remote.make_folder(remote_path(cell.folder)))
    else:
        cell.folder.mkdir(parents=True, exist_ok=True)
    # The training itself reports a full disk or unreachable storage.
    with suppress(Exception):
        beat()
    try:
        with run_periodically(PERIOD, beat, REMOTE_ERRORS):
            yield
    finally:
        if remote:
            # It would be taken for that of a hung process, which by then trains another cell.
            retry(remote.address, f"delete the heartbeat of {cell.name}", lambda: remote.delete(path))
        else:
            file.unlink(missing_ok=True)


@contextmanager
def kill_hung_processes(cells: Sequence[Cell]) -> Iterator[None]:
    """Kill training processes without heartbeats during the block, so that Ray restarts them."""
    address = cells[0].recipe.compute.storage_address
    remote, watched = Remote(address) if address else None, list(cells)
    last: dict[Path, tuple[bytes, int]] = {}
    """By cell: the last heartbeat, and how many checks have found it unchanged. Checks are counted, since this machine may have
    been suspended and the clocks of nodes differ."""

    def check() -> None:
        for cell, beat in zip(watched, heartbeats(watched, remote), strict=True):
            if beat is None:
                last.pop(cell.folder, None)
                continue
            previous, checks = last.get(cell.folder, (beat, 0))
            last[cell.folder] = beat, checks + 1 if beat == previous else 0
            if last[cell.folder][1] * PERIOD > TIMEOUT:
                last[cell.folder] = beat, 0
                kill_process(beat)
        if remote:
            # A process may hang between the end of a training and that of its heartbeat.
            ended = lambda cell: cell.folder not in last and final_metrics(cell.folder, cell.fingerprint) is not None
            watched[:] = itertools.filterfalse(ended, watched)

    with run_periodically(PERIOD, check, (RayError, ValueError, *REMOTE_ERRORS)):
        yield


@contextmanager
def free_orphaned_workers() -> Iterator[None]:
    """Free the resources of Ray Train's workers whose controller was killed, during the block: its next one waits for them.

    Ray Train itself asks a dashboard whether the controller lives, and frees nothing without an answer.
    """

    def check() -> None:
        for group in orphaned_groups():
            remove_placement_group(PlacementGroup(group))

    with run_periodically(PERIOD, check, (RayError,)):
        yield


def orphaned_groups() -> list[ray.PlacementGroupID]:
    """Return the placement groups that actors of this job have made and that are there although the actor is dead."""
    job = ray.get_runtime_context().get_job_id()
    # The public table of placement groups does not name their makers.
    raw = ray._private.state.state._connect_and_get_accessor().get_placement_group_table()
    groups = map(PlacementGroupTableData.FromString, raw)
    return [
        ray.PlacementGroupID(group.placement_group_id)
        for group in groups
        if group.creator_job_id.hex() == job
        and ray.ActorID(group.creator_actor_id) != ray.ActorID.nil()
        and group.creator_actor_dead
        and not group.is_detached
        and group.state != PlacementGroupTableData.REMOVED
    ]


def heartbeats(cells: Sequence[Cell], remote: Remote | None) -> list[bytes | None]:
    """Return the cells' last heartbeats; None for cells that are not being trained."""
    if remote is None:
        return [read_beat((cell.folder / ALIVE).read_bytes) for cell in cells]
    there = sizes_of(remote, ALIVE, [cell.folder for cell in cells])
    reads = {folder: partial(remote.read, f"{remote_path(folder)}/{ALIVE}") for folder in there}
    return [read_beat(reads[cell.folder]) if cell.folder in reads else None for cell in cells]


def read_beat(read: Callable[[], bytes]) -> bytes | None:
    """Return a heartbeat; None if there is none, or it cannot be read now: the other cells are watched all the same."""
    with suppress(*REMOTE_ERRORS):
        return read()
    return None


def kill_process(content: bytes) -> None:
    """Kill the training process that wrote a heartbeat file."""
    process = json.loads(content)
    there = NodeAffinitySchedulingStrategy(process["node"], soft=False)
    if ray.get(kill.options(scheduling_strategy=there).remote(process["pid"], process["process"]), timeout=120):
        log.warning(
            "killed a training process without a heartbeat for %g seconds (process %s)", TIMEOUT, process["pid"]
        )


@ray.remote(num_cpus=0, max_retries=0)
def kill(pid: int, identity: str | None) -> bool:
    """Kill a process on this node; return whether it was still there. Another one may have its id by now."""
    if identity is None or process_identity(pid) != identity:
        return False
    os.kill(pid, signal.SIGKILL)
    return True
