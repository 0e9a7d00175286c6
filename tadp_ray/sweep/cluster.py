"""Joins or starts Ray, and works out how many cells fit on it at once."""

import logging
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray.autoscaler.sdk import request_resources

from tadp_ray.config.compute import ComputeConfig
from tadp_ray.config.personalization import PersonalCompute
from tadp_ray.errors import UserError
from tadp_ray.logs import LEVEL, log_level
from tadp_ray.network import spare_proxy
from tadp_ray.sweep.alive import on_living_node
from tadp_ray.sweep.temporary import shorten_temporary_folder

log = logging.getLogger(__name__)
# Local Ray keeps no tensors in its object store: cells read their data from disk.
LOCAL_OBJECT_STORE = 128 * 2**20

KNOCKING = 10.0
"""Seconds in which a cluster has to take a connection; Ray itself would go on trying for minutes."""

GROWING = 1200.0
"""Seconds in which an autoscaler has to bring the nodes of a first cell: a GPU machine, and an image of some GiB on it."""

# Ray Train looks after its workers often, so that none idles; and a cell waits for its place as long as others train.
RAY_TRAIN = {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2", "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "8640000"}


@contextmanager
def cluster(address: str | None, compute: ComputeConfig) -> Iterator[int]:
    """Ray for the length of a sweep; yields how many cells fit on it at once.

    Raises:
        UserError: as `joined`, or not even one cell fits on the cluster.
    """
    # Ray Train frees the workers of a stopped cell through the dashboard's State API; without it the next cell hangs.
    with joined(address, dashboard=compute.num_train_workers > 0) as nodes:
        yield concurrency(nodes, compute)


@contextmanager
def joined(address: str | None, dashboard: bool) -> Iterator[list[dict[str, float]]]:
    """Ray for the length of a command; yields the resources of each node.

    Joins `address` (or RAY_ADDRESS) if one is given, else starts Ray on this machine and stops it afterwards.

    Raises:
        UserError: the cluster cannot be reached, or Ray does not start here.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    if address:
        ping(address)
    else:
        shorten_temporary_folder()
    spare_proxy(ray.util.get_node_ip_address())
    local = {"include_dashboard": dashboard, "object_store_memory": LOCAL_OBJECT_STORE}
    on_sigterm, on_sighup = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)
    # Processes inherit it: when a terminal closes, this command ends Ray's, once it has told MLflow.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        ray.init(
            address=address or "local",
            logging_level="ERROR",
            log_to_driver=False,
            runtime_env={
                "env_vars": {
                    **RAY_TRAIN,
                    **({} if address else {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}),
                    # The processes of a cluster that was started elsewhere do not inherit it.
                    LEVEL: log_level(),
                },
                "worker_process_setup_hook": "tadp_ray.sweep.worker_setup.know_own_cluster",
            },
            **({} if address else local),
        )
    except ConnectionError as error:
        raise silent(address, error) from None
    except Exception as error:
        # Ray has no class of its own for a start that takes more than half a minute.
        if "timed out during startup" not in str(error):
            raise
        raise UserError(
            "Ray did not start in time: this machine is too busy, or out of memory; run this again"
        ) from None
    finally:
        # Ray puts a handler of SIGTERM of its own in place, which aborts the program.
        signal.signal(signal.SIGTERM, on_sigterm)
        signal.signal(signal.SIGHUP, on_sighup)
    log.info("on Ray at %s: %s", ray.get_runtime_context().gcs_address, have(present()))
    try:
        with on_living_node():
            yield present()
    finally:
        ray.shutdown()


def present() -> list[dict[str, float]]:
    """The resources of each node that is there."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def ping(address: str) -> None:
    """Refuse the address of a machine that takes no connection.

    Raises:
        UserError: nobody answers there.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdecimal():  # others are words, as `auto`
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCKING).close()
        except OSError as error:
            raise silent(address, error) from None


def silent(address: str | None, error: OSError) -> UserError:
    """That no cluster answers at an address."""
    return UserError(f"--address {address}: no Ray cluster answers there ({error}); start one, or leave it out")


def resources_per_worker(compute: ComputeConfig | PersonalCompute) -> dict[str, float]:
    """What one training process reserves on its node."""
    return {"CPU": compute.cpus, **({"GPU": compute.gpus} if compute.gpus else {})}


def concurrency(nodes: list[dict[str, float]], compute: ComputeConfig) -> int:
    """How many cells run at once on nodes of the given resources, or on those that the cluster may add.

    Computed here because the resources of Ray Train's workers are invisible to Ray Tune, which would start cells that
    wait for each other's workers.

    Raises:
        UserError: no cell fits, ever; Ray would wait for resources without end.
    """
    cells = max(holds(nodes, compute), compute.max_parallel)
    if cells == 0:
        raise UserError(
            f"a cell needs {compute.world_size} worker(s) of {compute.cpus} CPUs and {compute.gpus:g} GPUs, which do not "
            f"fit on this cluster's nodes ({have(nodes)}); lower compute.num_train_workers, compute.cpus or compute.gpus, or "
            "say by compute.max_parallel for how many cells its autoscaler may add nodes"
        )
    return cells


def grow(compute: ComputeConfig, patience: float = GROWING) -> None:
    """Wait until the cluster has the nodes of one cell; for the others Ray asks by itself when it is to start them.

    An autoscaler does not tell which nodes it could add, so that only waiting shows whether it adds these.

    Raises:
        UserError: they have not come in `patience` seconds.
    """
    deadline = time.monotonic() + patience
    asked = False
    try:
        while not holds(present(), compute):
            if time.monotonic() > deadline:
                raise UserError(
                    f"compute.max_parallel: {compute.max_parallel}, but in {patience:g} seconds no autoscaler has "
                    f"added what a cell needs, {compute.world_size} worker(s) of {resources_per_worker(compute)}; "
                    f"there are {have(present())}"
                )
            if not asked:
                request_resources(bundles=[resources_per_worker(compute)] * compute.world_size)
                asked = True
            time.sleep(1)
    finally:
        if asked:
            request_resources(bundles=[])


def holds(nodes: list[dict[str, float]], compute: ComputeConfig) -> int:
    """How many cells the nodes hold at once."""
    return slots(nodes, compute.cpus, compute.gpus) // compute.world_size


def have(nodes: list[dict[str, float]]) -> str:
    """`2 CPUs, 0 GPUs; ...`: what each node has."""
    return "; ".join(f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs" for node in nodes)


def slots(nodes: list[dict[str, float]], cpus: int, gpus: float) -> int:
    """How many processes of so many CPUs and GPUs fit on the nodes."""
    return sum(int(min(node.get("CPU", 0) / cpus, gpu_slots(node, gpus))) for node in nodes)


def gpu_slots(node: dict[str, float], gpus: float) -> float:
    """Workers that a node's GPUs can hold; a share of a GPU never spans two."""
    if gpus == 0:
        return float("inf")
    if gpus < 1:
        return int(node.get("GPU", 0)) * int(1 / gpus)
    return int(node.get("GPU", 0) // gpus)
