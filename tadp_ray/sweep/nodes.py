"""What every node of a joined cluster must have in common with the machine that starts the sweep: its code, its storage."""

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tadp_ray.config.compute import ComputeConfig
from tadp_ray.errors import UserError
from tadp_ray.layout import SWEEP_LOCK
from tadp_ray.sweep.address import Remote
from tadp_ray.training.provenance import code_of, provenance

PATIENCE = 120.0
"""Seconds in which every node has to answer; starting a process there is most of it."""


@ray.remote(num_cpus=0, max_retries=0)
def inspect_node(compute: ComputeConfig) -> tuple[dict[str, str], bool]:
    """A node's code, and whether it sees the file that the sweep holds in its storage."""
    if compute.address:
        return code_of(provenance()), Remote(compute.address).claimed()
    return code_of(provenance()), (compute.folder / SWEEP_LOCK).is_file()


def check_nodes(compute: ComputeConfig) -> None:
    """Refuse a cluster of which a node would train something else, or elsewhere.

    The driver is the reference; nodes that leave are ignored.

    Raises:
        UserError: what differs on which nodes, and the mend.
    """
    asked = {}
    for node in ray.nodes():
        if node["Alive"] and node["NodeID"] != ray.get_runtime_context().get_node_id():
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            asked[inspect_node.options(scheduling_strategy=there).remote(compute)] = node
    if not asked:
        return
    answered, silent = ray.wait([*asked], num_returns=len(asked), timeout=PATIENCE)
    said = [(asked[answer], mismatch(answer, compute)) for answer in answered]
    said += [(asked[answer], f"has not answered within {PATIENCE:g} seconds; take it out") for answer in silent]
    left = {node["NodeID"] for node in ray.nodes() if not node["Alive"]}
    problems = [
        f"node {node['NodeManagerHostname']} ({node['NodeManagerAddress']}) {text}"
        for node, text in said
        if text and node["NodeID"] not in left
    ]
    if problems:
        raise UserError("the nodes of this cluster do not fit together:\n" + "\n".join(problems))


def mismatch(answer: ray.ObjectRef, compute: ComputeConfig) -> str:
    """What is wrong with a node that has answered; empty if nothing is."""
    try:
        there, sees = ray.get(answer)
    except RayError as error:
        return f"cannot run tadp_ray ({str(error).strip().splitlines()[-1]}); install it there as it is here"
    here = code_of(provenance())
    if differing := [
        f"{name} {there.get(name)} (here {found})" for name, found in here.items() if there.get(name) != found
    ]:
        return f"would not train the same: {', '.join(differing)}; install there what is installed here"
    if sees:
        return ""
    if compute.address:
        return f"does not reach compute.storage {compute.storage}; give it what this machine has to reach it"
    return f"does not see compute.storage {compute.storage}, which must be a folder that all nodes share"
