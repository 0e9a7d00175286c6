"""Starts Ray or joins a cluster, and computes how many cells fit on it at once."""

import logging
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path

import ray
from ray._common.utils import get_default_ray_temp_dir
from ray._private.resource_and_label_spec import ResourceAndLabelSpec
from ray.autoscaler.sdk import request_resources
from ray.exceptions import RayError

from tadp_ray.config.compute import ComputeConfig
from tadp_ray.config.personalization import PersonalCompute
from tadp_ray.errors import UserError
from tadp_ray.logs import LEVEL, log_level
from tadp_ray.network import bypass_proxy
from tadp_ray.phases import phase
from tadp_ray.sweep.alive import PERIOD, require_living_node
from tadp_ray.sweep.periodic import run_periodically
from tadp_ray.sweep.reach import cluster_address, no_cluster_error, ping
from tadp_ray.sweep.temporary import shorten_temporary_folder
from tadp_ray.wording import devices, pluralized

log = logging.getLogger(__name__)
# Ray on this machine alone. Its dashboard takes seconds to start. Without a port, Ray Train would ask whatever dashboard listens
# on the default one whether its own controllers live, and end its workers if that one does not know them. Cells read their data
# from disk, so the object store holds no tensors.
# Where memory runs out, the kernel kills a training process, and Tune restarts it. A kill by Ray's own monitor would end Tune.
LOCAL = {
    "include_dashboard": False,
    "dashboard_port": 0,
    "object_store_memory": 128 * 2**20,
    "_system_config": {"memory_monitor_refresh_ms": 0},
}

NO_ROOM_SECONDS = 300.0
"""How long nodes may be missing before that is told, and between two times that it is told."""

UNAUTHENTICATED = "if one asks for a token, as `ray start` does where ~/.ray/auth_token is, set RAY_AUTH_MODE=token"
"""Ray tells a refused token from no cluster in its log alone, and sends none to an explicit address by itself."""

# Frequent health checks, so that no worker idles; and a start-up time-out that lets a cell wait while others train.
RAY_TRAIN = {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2", "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "8640000"}
# A candidate that a search stops may take long to write its last files. After 2 seconds, Tune would silently drop the next one.
RAY_TUNE = {"TUNE_FUNCTION_THREAD_TIMEOUT_S": "86400"}


def may_grow(address: str | None) -> bool:
    """Return whether an autoscaler may add nodes: not to Ray on this machine."""
    return cluster_address(address) is not None


@contextmanager
def warn_without_room(address: str | None, need: str, room: Callable[[list[dict[str, float]]], int]) -> Iterator[None]:
    """Warn during the block if a cluster has lost the nodes that the work needs: Ray waits for others without a word.

    Args:
        address: of the cluster; Ray on this machine keeps its node.
        need: what the work needs, in words.
        room: returns how much of the work fits on nodes at once.
    """
    since = last = None

    def check() -> None:
        nonlocal since, last
        now, nodes = time.monotonic(), node_resources()
        if room(nodes):
            since = last = None
            return
        since = since or now
        if now - (last or since) > NO_ROOM_SECONDS:
            last = now
            log.warning(
                "for %d minutes no node had room for %s; there are %s. Add nodes, or stop this command, which resumes later",
                (now - since) // 60,
                need,
                describe_nodes(nodes) or "none",
            )

    with run_periodically(PERIOD, check, (RayError,)) if may_grow(address) else nullcontext():
        yield


def fitting_cells(address: str | None, compute: ComputeConfig) -> tuple[int, str]:
    """Return how many cells would run at once, 0 if none fits, and the nodes of the cluster in words.

    Raises:
        UserError: as `ray_session`.
    """
    nodes = planned_nodes(address)
    return cells_at_once(nodes, compute, may_grow(address)), describe_nodes(nodes)


def planned_nodes(address: str | None) -> list[dict[str, float]]:
    """Return the resources of each node of a cluster, or of this machine as Ray would count them; Ray is not started here.

    Raises:
        UserError: as `ray_session`.
    """
    if cluster_address(address):
        with ray_session(address) as nodes:
            return nodes
    return [ResourceAndLabelSpec().resolve(is_head=True).to_resource_dict()]


@contextmanager
def ray_session(address: str | None) -> Iterator[list[dict[str, float]]]:
    """Run Ray during a command; yield the resources of each node.

    Join `address` (or RAY_ADDRESS) if one is given, else start Ray on this machine and stop it afterwards.

    Raises:
        UserError: the cluster cannot be reached, or Ray does not start here, or is used by this process already.
    """
    if ray.is_initialized():
        raise UserError(
            "this Python process uses Ray already, for which each command has its own; call ray.shutdown() first"
        )
    address = cluster_address(address)
    if address:
        ping(address)
    else:
        shorten_temporary_folder()
    bypass_proxy(ray.util.get_node_ip_address())
    try:
        with signals_later():
            start_ray(address)
        log.info("on Ray at %s: %s", ray.get_runtime_context().gcs_address, describe_nodes(node_resources()))
        with require_living_node():
            yield node_resources()
    finally:
        ray.shutdown()


@contextmanager
def signals_later() -> Iterator[None]:
    """Start Ray in the block: a terminal that closes meanwhile, or SIGTERM, ends the command after it, when Ray can be stopped.

    Ray's processes hear nothing of the terminal, now or later: this command updates MLflow first, and then stops them.
    """
    on_sigterm, on_sighup = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)
    came: list[int] = []
    signal.signal(signal.SIGHUP, lambda number, _: came.append(number))
    # Child processes inherit what is blocked. Another thread of this one may still receive the signal.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    except SystemExit:
        # Ray installs a SIGTERM handler of its own, which exits.
        came.append(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, on_sigterm)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        signal.signal(signal.SIGHUP, on_sighup)
    for number in came[:1]:
        signal.raise_signal(number)


def start_ray(address: str | None) -> None:
    """Join a Ray cluster, or start one of this machine (UserError if that fails)."""
    try:
        ray.init(
            address=address or "local",
            logging_level="ERROR",
            log_to_driver=False,
            runtime_env={
                "env_vars": {
                    **RAY_TRAIN,
                    **RAY_TUNE,
                    **({} if address else {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}),
                    # Processes of an existing cluster do not inherit the environment.
                    LEVEL: log_level(),
                },
                "worker_process_setup_hook": "tadp_ray.sweep.worker_setup.set_up_worker",
            },
            **({} if address else LOCAL),
        )
    except ConnectionError as error:
        raise UserError(f"{no_cluster_error(address, error)}; {UNAUTHENTICATED}") from None
    except Exception as error:
        # Ray has no exception class for a start that takes more than half a minute.
        if not any(words in str(error) for words in ("timed out during startup", "Timed out waiting for file")):
            raise
        raise UserError(
            f"Ray did not start in time: this machine is too busy or out of memory, or {get_default_ray_temp_dir()} is full "
            "(RAY_TMPDIR names another folder); run this again"
        ) from None
    if not address:
        # Ray runs code for whoever knows this token, and lets all users of this machine read it.
        with suppress(OSError):
            (Path.home() / ".ray/auth_token").chmod(0o600)


def node_resources() -> list[dict[str, float]]:
    """Return the resources of each living node."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def resources_per_worker(compute: ComputeConfig | PersonalCompute) -> dict[str, float]:
    """Return the resources that one training process reserves on its node."""
    return {"CPU": compute.cpus, **({"GPU": compute.gpus} if compute.gpus else {})}


def cells_at_once(nodes: list[dict[str, float]], compute: ComputeConfig, grows: bool) -> int:
    """Return how many cells run at once on nodes, or also on those that the cluster may add; 0 if none fits."""
    fitting, most = cell_slots(nodes, compute), compute.max_parallel
    if not most:
        return fitting
    return most if grows else min(fitting, most)


def concurrency(nodes: list[dict[str, float]], compute: ComputeConfig, grows: bool = True) -> int:
    """Return how many cells run at once on nodes with these resources, or on those that the cluster may add.

    It is computed here because Ray Tune does not see the resources of Ray Train's workers, and would start cells that wait
    for each other's workers.

    Raises:
        UserError: not even one cell fits; Ray would wait forever.
    """
    cells = cells_at_once(nodes, compute, grows)
    if cells == 0:
        or_grow = ", or set compute.max_parallel to the number of cells that its autoscaler may add nodes for"
        raise UserError(
            f"a cell needs {cell_need(compute)}, which do not fit on this cluster's nodes ({describe_nodes(nodes)}); lower "
            f"compute.num_train_workers, compute.cpus or compute.gpus{or_grow * grows}"
        )
    return cells


def grow(address: str | None, compute: ComputeConfig) -> None:
    """Wait until the cluster has the nodes of one cell; Ray itself requests the nodes of the others when it starts them.

    An autoscaler does not say which nodes it could add, and on a busy cluster they come after hours. So there is no limit, but
    a warning every five minutes.
    """
    fits = partial(cell_slots, compute=compute)
    if fits(node_resources()):
        return
    phase("waiting for the nodes that the cluster's autoscaler adds for a cell")
    request_resources(bundles=[resources_per_worker(compute)] * compute.world_size)
    try:
        with warn_without_room(address, cell_need(compute), fits):
            while not fits(node_resources()):
                time.sleep(1)
    finally:
        request_resources(bundles=[])


def cell_need(compute: ComputeConfig) -> str:
    """Return what a cell needs at once, in words: `2 workers of 1 CPU and 1 GPU`."""
    return f"{pluralized(compute.world_size, 'workers')} of {devices(compute.cpus, compute.gpus)}"


def cell_slots(nodes: list[dict[str, float]], compute: ComputeConfig) -> int:
    """Return how many cells fit on the nodes at once."""
    return slots(nodes, compute.cpus, compute.gpus) // compute.world_size


def describe_nodes(nodes: list[dict[str, float]]) -> str:
    """Return each node's resources in words: `2 CPUs, 0 GPUs; ...`."""
    return "; ".join(
        f"{pluralized(node.get('CPU', 0), 'CPUs')}, {pluralized(node.get('GPU', 0), 'GPUs')}" for node in nodes
    )


def slots(nodes: list[dict[str, float]], cpus: int, gpus: float) -> int:
    """Return how many processes with these CPUs and GPUs fit on the nodes."""
    return sum(int(min(node.get("CPU", 0) / cpus, gpu_slots(node, gpus))) for node in nodes)


def gpu_slots(node: dict[str, float], gpus: float) -> float:
    """Return how many workers fit on a node's GPUs; a fraction of a GPU never spans two."""
    if gpus == 0:
        return float("inf")
    if gpus < 1:
        return int(node.get("GPU", 0)) * int(1 / gpus)
    return int(node.get("GPU", 0) // gpus)
