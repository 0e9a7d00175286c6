"""Ray's own autoscaler, on one machine, brings the nodes that a sweep asks for and takes them away after it."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID

pytestmark = pytest.mark.cluster
STORE = 10**8
HEAD = {"CPU": 0, "object_store_memory": STORE}
NODE = {"CPU": 1, "GPU": 1, "object_store_memory": STORE}
"""Of a machine that says it has a GPU; cells ask only for its CPU, because there is none."""
COMMANDS = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")


def autoscaling(address: str) -> dict[str, Any]:
    """Return the file that `ray up` reads: at most two such machines, which go after some idle seconds."""
    return {
        "cluster_name": "tests",
        "max_workers": 2,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 0.05,
        "provider": {
            "type": "external",
            # In full, because the short name reads a file that the wheel lacks.
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "gcs_address": address,
            "launch_multiple": True,
            "head_node_id": FAKE_HEAD_NODE_ID,
        },
        "available_node_types": {
            "ray.head.default": {"resources": HEAD, "node_config": {}, "max_workers": 0},
            "gpu": {"resources": NODE, "node_config": {}, "min_workers": 0, "max_workers": 2},
        },
        "head_node_type": "ray.head.default",
        # The machines are there already, so there is nothing to set up.
        **{f"{name}_commands": [] for name in COMMANDS},
        **{name: {} for name in ("docker", "auth", "file_mounts")},
        **{name: [] for name in ("cluster_synced_files", "rsync_exclude", "rsync_filter")},
        "file_mounts_sync_continuously": False,
    }


@pytest.fixture
def head(
    free_ports: Callable[[int], list[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill_family, wait_for
) -> Iterator[psutil.Popen]:
    """A head without CPUs, with the autoscaler that the manifests use; RAY_ADDRESS leads to it.

    Ray's AutoscalingCluster does the same, but begins and ends with `ray stop`, which ends every Ray of this machine.
    """
    port, client = free_ports(2)
    address = f"{ray.util.get_node_ip_address()}:{port}"
    (tmp_path / "autoscaling.json").write_text(json.dumps(autoscaling(address)))
    own = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # sockets have short paths only
    monkeypatch.setenv("RAY_ADDRESS", address)
    # Else Ray asks for a token where this user has one.
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    words = ["--head", "--block", "--num-cpus=0", "--num-gpus=0", "--include-dashboard=false", f"--temp-dir={own}"]
    words += [f"--port={port}", f"--ray-client-server-port={client}", f"--object-store-memory={STORE}"]
    words += [f"--autoscaling-config={tmp_path / 'autoscaling.json'}"]
    settings = {
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_FAKE_CLUSTER": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
    }
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", *words]
    output = tmp_path / "ray.log"
    # Ray gives itself half a minute to start, which is not enough on a busy machine.
    for _ in range(10):
        with output.open("w") as log:
            process = psutil.Popen(start, env=os.environ | settings, stdout=log, stderr=subprocess.STDOUT)
        wait_for(lambda at_work=process: at_work.poll() is not None or "--block" in output.read_text())
        if "timed out during startup" not in output.read_text():
            break
    try:
        assert process.poll() is None, output.read_text()
        yield process
        assert process.poll() is None, output.read_text()
    finally:
        kill_family(process)
        shutil.rmtree(own, ignore_errors=True)


def nodes(head: psutil.Popen) -> int:
    """Return how many nodes the autoscaler has added and not taken away."""
    found = 0
    for process in head.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            found += process.name() == "raylet"
    return found - 1


def test_nodes_come_for_cells_and_go_after(sweep, head: psutil.Popen, wait_for) -> None:
    """Two cells on a cluster without a single CPU train on two nodes, which are gone some seconds after the sweep."""
    assert nodes(head) == 0
    hit = sweep("grown", "--set", "compute.max_parallel=2")
    hit.start()
    hit.wait_for_checkpoint(cells=2)
    assert nodes(head) == 2
    code, said = hit.end()
    assert code == 0 and "training 2 cells at once" in said, said
    wait_for(lambda: nodes(head) == 0)
