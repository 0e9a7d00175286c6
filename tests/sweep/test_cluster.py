"""How many cells fit on a cluster is computed, since Ray would wait for ever for one too many."""

import errno
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import pytest
import ray
from ray.exceptions import RaySystemError

from tadp_ray.cli.common import interrupt
from tadp_ray.config.cell import Cell
from tadp_ray.config.compute import ComputeConfig
from tadp_ray.errors import UserError
from tadp_ray.layout import SWEEP_LOCK
from tadp_ray.sweep import cluster, temporary
from tadp_ray.sweep import nodes as nodes_module
from tadp_ray.sweep.cluster import concurrency, grow, may_grow, planned_nodes, ray_session
from tadp_ray.sweep.storage import locked_storage
from tadp_ray.sweep.worker import resources
from tadp_ray.training.provenance import code_of, provenance

LAPTOP = [{"CPU": 2.0}]
BOXES = [{"CPU": 16.0}, {"CPU": 64.0, "GPU": 8.0}, {"CPU": 12.0, "GPU": 2.0}]


@pytest.mark.parametrize(
    ("nodes", "compute", "cells"),
    [
        (LAPTOP, {}, 2),
        (LAPTOP, {"cpus": 2}, 1),
        (LAPTOP, {"num_train_workers": 2}, 1),
        (
            BOXES,
            {"num_train_workers": 2, "cpus": 8, "gpus": 1},
            4,
        ),  # 8 + 1 workers fit: the second box has CPUs for one only
        (BOXES, {"cpus": 1, "gpus": 0.4}, 20),  # two to a GPU
        (BOXES, {"num_train_workers": 1, "cpus": 4, "gpus": 2}, 5),
    ],
)
def test_cells_at_once(nodes: list, compute: dict, cells: int) -> None:
    assert concurrency(nodes, ComputeConfig(**compute)) == cells


def test_a_plan_counts_this_machine_as_ray_does_and_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray._private.resource_and_label_spec.ray._private.utils.get_num_cpus", lambda *_: 7)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (node,) = planned_nodes(None)
    assert node["CPU"] == 7 and not ray.is_initialized()
    assert concurrency([node], ComputeConfig(cpus=2)) == 3


@pytest.mark.parametrize("compute", [{"gpus": 1}, {"cpus": 3}, {"num_train_workers": 3}])
def test_a_cell_that_never_fits_is_refused(compute: dict) -> None:
    with pytest.raises(UserError, match="do not fit on this cluster's nodes .*lower compute.num_train_workers"):
        concurrency(LAPTOP, ComputeConfig(**compute))


def test_ray_on_this_machine_does_not_grow() -> None:
    gpus = ComputeConfig(gpus=1, max_parallel=4)
    assert concurrency(LAPTOP, gpus, grows=may_grow("10.0.0.1:6379")) == 4
    with pytest.raises(UserError, match="do not fit on this cluster's nodes .*lower .* compute.gpus$"):
        concurrency(LAPTOP, gpus, grows=may_grow(None))
    assert concurrency(LAPTOP, ComputeConfig(max_parallel=4), grows=may_grow(None)) == 2


def test_a_cluster_that_has_lost_the_nodes_of_a_cell_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, wait_for
) -> None:
    """Again and again, until one is there."""
    nodes: list[list[dict[str, float]]] = [[{"CPU": 1.0}]]
    monkeypatch.setattr(cluster, "node_resources", lambda: nodes[-1])
    monkeypatch.setattr(cluster, "PERIOD", 0.001)
    monkeypatch.setattr(cluster, "NO_ROOM_SECONDS", 0.01)
    room = partial(cluster.slots, cpus=2, gpus=0)
    with caplog.at_level("WARNING"), cluster.warn_without_room("10.0.0.1:6379", "a cell of 2 CPUs", room):
        wait_for(lambda: len(caplog.records) > 1)
        nodes.append([{"CPU": 2.0}])
        time.sleep(0.1)
        told = len(caplog.records)
        time.sleep(0.1)
    assert len(caplog.records) == told
    assert "no node had room for a cell of 2 CPUs; there are 1 CPU, 0 GPUs" in caplog.text


def test_a_cluster_may_grow_to_what_a_cell_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The autoscaler is asked for one cell, and asked for nothing any more when that fits, or when the command is stopped."""
    gpus = ComputeConfig(num_train_workers=2, gpus=1, max_parallel=4)
    assert concurrency(LAPTOP, gpus) == concurrency(BOXES, gpus) == 4 and concurrency(BOXES, gpus, grows=False) == 4
    nodes, asked, stop = list(LAPTOP), [], Mock(side_effect=KeyboardInterrupt)

    def request(bundles: list) -> None:
        asked.append(bundles)
        nodes.append({"CPU": 8.0, "GPU": 2.0})

    monkeypatch.setattr("tadp_ray.sweep.cluster.node_resources", lambda: nodes)
    monkeypatch.setattr("tadp_ray.sweep.cluster.request_resources", lambda bundles: asked.append(bundles))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("tadp_ray.sweep.cluster.time.sleep", stop)
        grow("auto", gpus)
    assert asked == [[{"CPU": 1, "GPU": 1}] * 2, []]
    monkeypatch.setattr("tadp_ray.sweep.cluster.request_resources", request)
    grow("auto", gpus)
    assert asked[-2:] == [[{"CPU": 1, "GPU": 1}] * 2, []]
    asked.clear()
    grow("auto", gpus)
    assert not asked


def test_a_share_of_a_gpu_is_what_ray_is_asked_for(make_cell) -> None:
    cell = make_cell()
    compute = {**cell.recipe.compute.model_dump(), "cpus": 2, "gpus": 0.5}
    shared = Cell.model_validate({**cell.model_dump(), "recipe": {**cell.recipe.model_dump(), "compute": compute}})
    assert resources(shared).bundles == [{"CPU": 2, "GPU": 0.5}]


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_nobody_answers_at_is_told_at_once(scheme: str, free_port: int) -> None:
    began = time.monotonic()
    with pytest.raises(
        UserError, match=f"--address {scheme}127.0.0.1:{free_port}: no Ray cluster answers there.*refused"
    ):
        with ray_session(f"{scheme}127.0.0.1:{free_port}"):
            pass
    assert time.monotonic() - began < 100


def test_a_cluster_that_asks_for_a_token_is_no_missing_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray says the same of both."""

    def refuse(**_: object) -> None:
        raise ConnectionError("Failed to connect to Ray cluster at 10.0.0.1:6379")

    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(
        UserError, match="no Ray cluster answers there.*; if one asks for a token, .* set RAY_AUTH_MODE=token"
    ):
        with ray_session("auto"):
            pass


def test_a_process_that_uses_ray_already_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    with pytest.raises(UserError, match=r"this Python process uses Ray already.*call ray\.shutdown\(\) first"):
        with ray_session(None):
            pass


def test_other_users_of_this_machine_cannot_read_rays_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = tmp_path / ".ray/auth_token"

    def init(**_: object) -> None:
        token.parent.mkdir()
        token.write_text("token")

    monkeypatch.setattr(cluster.ray, "init", init)
    monkeypatch.setenv("HOME", str(tmp_path))
    cluster.start_ray(None)
    assert token.stat().st_mode & 0o777 == 0o600


def test_storage_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        UserError, match=r"compute.storage .*file/runs: cannot be written \(Not a directory\); name another"
    ):
        with locked_storage(ComputeConfig(storage=f"{tmp_path}/file/runs")):
            raise AssertionError


def test_a_node_that_would_train_something_else_or_elsewhere_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here = code_of(provenance())
    assert here["torch"] and len(here["code"]) == 12

    def told(there: dict, sees: bool = True, storage: str = "/runs", excludes: bool = True) -> str:
        monkeypatch.setattr(nodes_module.ray, "get", lambda _: (there, sees, excludes))
        return nodes_module.mismatch(None, ComputeConfig(storage=storage))

    assert told(here) == ""
    assert f"runs other versions: torch 2.0 (here {here['torch']}); install the same there" in told(
        {**here, "torch": "2.0"}
    )
    assert "runs other versions: code 0 (here" in told({**here, "code": "0"})
    assert "does not see compute.storage /runs, which must be a folder that all nodes share" in told(here, sees=False)
    assert "sees compute.storage /runs, but not its locks" in told(here, excludes=False)
    assert "does not reach compute.storage s3://bucket/runs; give" in told(here, sees=False, storage="s3://bucket/runs")

    def without_locks(_: Path) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(nodes_module, "is_locked", without_locks)
    (tmp_path / SWEEP_LOCK).touch()
    assert nodes_module.inspect_node._function(ComputeConfig(storage=str(tmp_path)))[1:] == (True, False)

    def broken(_: None) -> None:
        raise RaySystemError("No module named 'tadp_ray'")

    monkeypatch.setattr(nodes_module.ray, "get", broken)
    assert "cannot run tadp_ray" in (said := nodes_module.mismatch(None, ComputeConfig())) and "No module named" in said


def test_a_long_temporary_folder_is_replaced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A socket's path has 107 bytes, of which Ray's own names take most."""
    long, longer = f"/tmp/{'x' * 60}", f"/tmp/{'x' * 90}"
    # TMPDIR and RAY_TMPDIR as the user has them, and as they are then
    for given, then in {
        ("/tmp", None): ("/tmp", None),
        (long, None): (long, "/tmp"),
        (longer, None): ("/tmp", None),
        ("/tmp", long): ("/tmp", "/tmp"),
        (long, "/scratch"): (long, "/scratch"),
        (longer, "/scratch"): ("/tmp", "/scratch"),
        (longer, long): ("/tmp", "/tmp"),
    }.items():
        with monkeypatch.context() as patch:
            patch.setenv("TMPDIR", str(given[0]))
            patch.setattr(tempfile, "tempdir", given[0])
            patch.setenv("RAY_TMPDIR", str(given[1]))
            if given[1] is None:
                patch.delenv("RAY_TMPDIR")
            temporary.shorten_temporary_folder()
            assert (os.environ["TMPDIR"], os.environ.get("RAY_TMPDIR")) == then, given
            assert tempfile.gettempdir() == then[0]
    monkeypatch.setenv("RAY_TMPDIR", f"/tmp/{'x' * 60}")
    monkeypatch.setattr(temporary, "SHORT_FOLDER", tmp_path / "nowhere")
    with pytest.raises(UserError, match="x/ray is too long a path for sockets, and .*; set RAY_TMPDIR"):
        temporary.shorten_temporary_folder()


@pytest.mark.parametrize("how", [signal.SIGHUP, signal.SIGTERM])
def test_a_signal_while_ray_starts_ends_the_command_once_ray_can_be_stopped(how, monkeypatch) -> None:
    """As Ray's own handler of SIGTERM exits, and with a thread that checks the data and may receive the signal."""
    told: list[str] = []

    def starts(address: str | None) -> None:
        child = "import signal; print(signal.SIGHUP in signal.pthread_sigmask(signal.SIG_BLOCK, []))"
        told.append(subprocess.check_output([sys.executable, "-c", child], text=True).strip())
        if how == signal.SIGTERM:
            raise SystemExit(int(how))
        os.kill(os.getpid(), how)
        told.append("started")

    monkeypatch.setattr(cluster, "start_ray", starts)
    monkeypatch.setattr(cluster.ray, "shutdown", lambda: told.append("stopped"))
    before = {number: signal.signal(number, interrupt) for number in (signal.SIGHUP, signal.SIGTERM)}
    over = threading.Event()
    other = threading.Thread(target=over.wait)
    other.start()
    try:
        with pytest.raises(KeyboardInterrupt), cluster.ray_session(None):
            pytest.fail("went on")
        assert signal.getsignal(how) is not interrupt, "repetitions are ignored for a while"
    finally:
        over.set()
        for number, handler in before.items():
            signal.signal(number, handler)
    assert told == ["True", *["started"] * (how == signal.SIGHUP), "stopped"]
    assert signal.SIGHUP not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
