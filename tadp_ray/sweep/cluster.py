"""Joins or starts Ray, and works out how many cells fit on it at once."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from tadp_ray.config.schema import ComputeConfig

# Local Ray keeps no tensors in its object store: cells read their data from disk.
LOCAL_OBJECT_STORE = 128 * 2**20

# Ray Train looks after its workers often, so that none idles; and a cell waits for its place as long as others train.
RAY_TRAIN = {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2", "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "8640000"}


@contextmanager
def cluster(address: str | None, compute: ComputeConfig) -> Iterator[int]:
    """Ray for the length of a sweep; yields how many cells fit on it at once.

    Raises:
        ValueError: as `joined`, or not even one cell fits on the cluster.
    """
    # Ray Train frees the workers of a stopped cell through the dashboard's State API; without it the next cell hangs.
    with joined(address, dashboard=compute.workers > 0) as nodes:
        yield concurrency(nodes, compute)


@contextmanager
def joined(address: str | None, dashboard: bool) -> Iterator[list[dict[str, float]]]:
    """Ray for the length of a command; yields the resources of each node.

    Joins `address` (or RAY_ADDRESS) if one is given, else starts Ray on this machine and stops it afterwards.

    Raises:
        ValueError: the cluster cannot be reached, or Ray does not start here.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    local = {"include_dashboard": dashboard, "object_store_memory": LOCAL_OBJECT_STORE}
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address=address or "local",
            logging_level="ERROR",
            log_to_driver=False,
            runtime_env={"env_vars": RAY_TRAIN | ({} if address else {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"})},
            **({} if address else local),
        )
    except ConnectionError as error:
        raise ValueError(
            f"--address {address}: no Ray cluster answers there ({error}); start one, or leave it out"
        ) from None
    except Exception as error:
        # Ray has no class of its own for a start that takes more than half a minute.
        if "timed out during startup" not in str(error):
            raise
        raise ValueError(
            "Ray did not start in time: this machine is too busy, or out of memory; run this again"
        ) from None
    # Ray puts a handler of its own in place, which aborts the program.
    signal.signal(signal.SIGTERM, on_sigterm)
    try:
        yield [node["Resources"] for node in ray.nodes() if node["Alive"]]
    finally:
        ray.shutdown()


def concurrency(nodes: list[dict[str, float]], compute: ComputeConfig) -> int:
    """How many cells run at once on nodes of the given resources.

    Computed here because the resources of Ray Train's workers are invisible to Ray Tune, which would start cells that
    wait for each other's workers.

    Raises:
        ValueError: no cell fits, ever; Ray would wait for resources without end.
    """
    cells = slots(nodes, compute.cpus, compute.gpus) // compute.world_size
    if cells == 0:
        raise ValueError(
            f"a cell needs {compute.world_size} worker(s) of {compute.cpus} CPUs and {compute.gpus:g} GPUs, which do not "
            f"fit on this cluster's nodes ({have(nodes)}); lower compute.workers, compute.cpus or compute.gpus"
        )
    return cells


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
