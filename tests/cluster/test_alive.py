"""Processes that die or stop without a word end or restart a sweep, which never waits for ever."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tadp_ray.sweep.plan import make_plan
from tadp_ray.training.journal import read_journal

pytestmark = pytest.mark.cluster
# A training process that is stopped is known after some seconds here, and after ten minutes else.
SCRIPT = "from tadp_ray.sweep import alive\nalive.TIMEOUT = 12\nfrom tadp_ray.cli import app\napp()"
ONE = ("--only", "caption.precision=1.0", "--only", "caption.recall=1.0")


@pytest.fixture
def start(experiment: Path, empty_database: Path, tmp_path: Path):
    """Starts one cell of many steps; returns the command's process and the cell."""
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    changes = [
        "schedule.iterations=24",
        "evaluation.interval=12",
        "compute.checkpoint_every=4",
        f"compute.storage={tmp_path}/runs",
    ]

    def make() -> tuple[psutil.Popen, Path]:
        flags = [word for change in changes for word in ("--set", change)]
        words = [sys.executable, "-c", SCRIPT, "sweep", str(experiment), *flags, *ONE]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
        (cell,) = make_plan(experiment, "pocket", overrides=changes, only=ONE[1::2]).selected
        return psutil.Popen(words, cwd=tmp_path, **pipes), cell.folder

    return make


def wait_for_checkpoint(folder: Path, driver: psutil.Popen) -> None:
    """Return when the cell has written a checkpoint and is still training."""
    while not any("checkpoint" in record for record in read_journal(folder)):
        assert driver.poll() is None
        time.sleep(0.02)


def test_a_dead_raylet_ends_the_sweep(start) -> None:
    driver, folder = start()
    wait_for_checkpoint(folder, driver)
    family = driver.children(recursive=True)
    (raylet,) = (child for child in family if child.name() == "raylet")
    raylet.kill()
    said, _ = driver.communicate(timeout=900)
    assert driver.returncode == 2, said
    assert "error: Ray on this machine died" in said and "run the same command again to resume" in said
    assert "Traceback" not in said
    assert not psutil.wait_procs(family, timeout=900)[1]
    driver, _ = start()
    said, _ = driver.communicate(timeout=900)
    assert driver.returncode == 0 and any(record["type"] == "finished" for record in read_journal(folder)), said


def test_a_stopped_worker_is_ended_and_its_cell_goes_on(start) -> None:
    driver, folder = start()
    wait_for_checkpoint(folder, driver)
    (worker,) = (child for child in driver.children(recursive=True) if child.name().startswith("ray::Implicit"))
    worker.suspend()
    said, _ = driver.communicate(timeout=900)
    assert driver.returncode == 0, said
    assert f"killed a training process without a heartbeat for 12 seconds (process {worker.pid})" in said
    assert "resuming from its last checkpoint" in said and any(
        record["type"] == "finished" for record in read_journal(folder)
    )


def test_a_closed_terminal_ends_the_sweep_cleanly(start) -> None:
    """The whole group of processes hears of it, as when an SSH session closes, and nobody reads any more."""
    from tadp_ray.tracking.query import rows
    from tadp_ray.tracking.store import open_store

    driver, folder = start()
    wait_for_checkpoint(folder, driver)
    family = driver.children(recursive=True)
    driver.stdout.close()
    os.killpg(driver.pid, signal.SIGHUP)
    assert driver.wait(900) == 130
    assert not psutil.wait_procs(family, timeout=900)[1]
    store = open_store(f"sqlite:///{folder.parents[2]}/mlflow.db")
    (row,) = rows(store, "tiny", "pocket")
    assert row.status == "KILLED"
    (sweep,) = store.client.search_runs([store.experiment_id("tiny")], "tags.`tadp.sweep` != ''")
    assert sweep.info.status == "KILLED"
