"""Checks that every node of a joined cluster has the same code and the same storage as the machine that starts the sweep."""

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tadp_ray.config.compute import ComputeConfig
from tadp_ray.errors import UserError
from tadp_ray.files import is_locked
from tadp_ray.layout import SWEEP_LOCK
from tadp_ray.sweep.address import Remote
from tadp_ray.training.provenance import code_of, provenance

PATIENCE = 120.0
"""Seconds to wait for every node's answer, most of which is the start of a process."""


@ray.remote(num_cpus=0, max_retries=0)
def inspect_node(compute: ComputeConfig) -> tuple[dict[str, str], bool, bool]:
    """Return a node's code versions, and what it sees in the storage: the sweep's file, and that the sweep has locked it."""
    if compute.storage_address:
        sees = Remote(compute.storage_address).has_marker()
        return code_of(provenance()), sees, sees
    lock = compute.folder / SWEEP_LOCK
    try:
        excludes = is_locked(lock)
    except OSError:
        # Its mount has no locks at all.
        excludes = False
    return code_of(provenance()), lock.is_file(), excludes


def check_nodes(compute: ComputeConfig) -> None:
    """Check that every node runs the same code and sees the same storage.

    The driver is the reference; nodes that leave are ignored.

    Raises:
        UserError: what differs on which nodes.
    """
    pending = {}
    for node in ray.nodes():
        if node["Alive"] and node["NodeID"] != ray.get_runtime_context().get_node_id():
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            pending[inspect_node.options(scheduling_strategy=there).remote(compute)] = node
    if not pending:
        return
    ready, silent = ray.wait([*pending], num_returns=len(pending), timeout=PATIENCE)
    answers = [(pending[answer], mismatch(answer, compute)) for answer in ready]
    answers += [(pending[answer], f"did not answer within {PATIENCE:g} seconds; remove it") for answer in silent]
    left = {node["NodeID"] for node in ray.nodes() if not node["Alive"]}
    problems = [
        f"node {node['NodeManagerHostname']} ({node['NodeManagerAddress']}) {text}"
        for node, text in answers
        if text and node["NodeID"] not in left
    ]
    if problems:
        raise UserError("the nodes of this cluster differ:\n" + "\n".join(problems))


def mismatch(answer: ray.ObjectRef, compute: ComputeConfig) -> str:
    """Return how a node differs from this machine; empty if it does not."""
    try:
        there, sees, excludes = ray.get(answer)
    except RayError as error:
        return f"cannot run tadp_ray ({str(error).strip().splitlines()[-1]}); install the same version there"
    here = code_of(provenance())
    if differing := [
        f"{name} {there.get(name)} (here {version})" for name, version in here.items() if there.get(name) != version
    ]:
        return f"runs other versions: {', '.join(differing)}; install the same there"
    if sees and excludes:
        return ""
    if sees:
        return (
            f"sees compute.storage {compute.storage}, but not its locks, so two processes could train the same cell; mount it "
            "there and here with shared flock (NFS 4.1, Lustre's flock)"
        )
    if compute.storage_address:
        return f"does not reach compute.storage {compute.storage}; give it the credentials and packages that this machine has"
    return f"does not see compute.storage {compute.storage}, which must be a folder that all nodes share"
