"""Processes that die or stop without a word end or restart a sweep, which never waits for ever."""

import json
import os
import shutil
import signal
import time
from io import BytesIO
from pathlib import Path

import psutil
import pytest

from tadp_ray.sweep.address import Remote
from tadp_ray.training.journal import read_journal
from tests.fixtures.cells import make_plan

pytestmark = pytest.mark.cluster
# A training process that is stopped is known after some seconds here, and after ten minutes else.
SCRIPT = "from tadp_ray.sweep import alive\nalive.TIMEOUT = 12\nfrom tadp_ray.cli import app\napp()"
# A session of its own, as a terminal's, which is a pipe.
TERMINAL = "import os\nos.setsid()\nfor stream in (1, 2):\n    os.dup2(os.open('terminal', os.O_WRONLY), stream)\n"
ONE = ("--only", "caption.precision=1.0", "--only", "caption.recall=1.0")


@pytest.fixture
def steps() -> int:
    """So many that the cell does not end before a dead raylet is noticed."""
    return 100


@pytest.fixture
def changes(steps: int, tmp_path: Path) -> list[str]:
    """What makes a cell so long."""
    lengths = [f"schedule.iterations={steps}", f"evaluation.interval={steps // 2}", "compute.checkpoint_every=4"]
    return [*lengths, f"compute.storage={tmp_path}/runs"]


@pytest.fixture
def words(experiment: Path, changes: list[str], empty_database: Path, tmp_path: Path) -> list[str]:
    """The words of a program that trains one cell."""
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    (tmp_path / "program.py").write_text(SCRIPT)
    flags = [word for change in changes for word in ("--set", change)]
    return [str(tmp_path / "program.py"), "sweep", str(experiment), *flags, *ONE]


@pytest.fixture
def folder(experiment: Path, changes: list[str]) -> Path:
    """The folder of the cell."""
    (cell,) = make_plan(experiment, "pocket", overrides=changes, only=ONE[1::2]).selected
    return cell.folder


def wait_for_checkpoint(folder: Path, driver: psutil.Process) -> None:
    """Return when the cell has written a checkpoint and is still training."""
    while not any("checkpoint" in record for record in read_journal(folder)):
        assert driver.is_running() and driver.status() != psutil.STATUS_ZOMBIE
        time.sleep(0.02)


def test_a_dead_raylet_ends_the_sweep(fork, words: list[str], folder: Path, tmp_path: Path) -> None:
    hit = fork(*words, folder=tmp_path)
    wait_for_checkpoint(folder, hit.process)
    family = hit.process.children(recursive=True)
    (raylet,) = (child for child in family if child.name() == "raylet")
    raylet.kill()
    code, said = hit.end()
    assert code == 2, said
    assert "error: Ray on this machine died" in said and "run the same command again to resume" in said
    assert "Traceback" not in said
    assert not psutil.wait_procs(family, timeout=900)[1]


def test_a_sweep_that_was_taken_over_ends(
    fork, words: list[str], folder: Path, tmp_path: Path, object_store: str
) -> None:
    """As one whose machine was cut off, while another took its place."""
    address = object_store.replace("bucket?", f"bucket/{tmp_path.name}?")
    Path(words[0]).write_text(f"from tadp_ray.sweep import claim\nclaim.PERIOD = 0.5\n{SCRIPT}")
    hit = fork(*words, "--set", f"compute.storage={address}", folder=tmp_path)
    wait_for_checkpoint(folder, hit.process)
    family = hit.process.children(recursive=True)
    remote = Remote(address)
    (own,) = remote.names("claims")
    other = json.loads(remote.read(f"claims/{own}")) | {"host": "elsewhere", "replaces": [f"claims/{own}"]}
    remote.write(BytesIO(json.dumps(other).encode()), "claims/other")
    code, said = hit.end()
    assert code == 2, said
    assert f"another sweep took over, process {hit.process.pid} on elsewhere since" in said and "Traceback" not in said
    assert remote.names("claims") == ["other"]
    assert not psutil.wait_procs(family, timeout=900)[1]


@pytest.mark.parametrize("steps", [12])
def test_a_stopped_worker_is_ended_and_its_cell_goes_on(fork, words: list[str], folder: Path, tmp_path: Path) -> None:
    hit = fork(*words, folder=tmp_path)
    wait_for_checkpoint(folder, hit.process)
    (worker,) = (child for child in hit.process.children(recursive=True) if child.name().startswith("ray::Implicit"))
    worker.suspend()
    code, said = hit.end()
    assert code == 0, said
    assert f"killed a training process without a heartbeat for 12 seconds (process {worker.pid})" in said
    assert "resuming from its last checkpoint" in said and any(
        record["type"] == "finished" for record in read_journal(folder)
    )


def test_a_closed_terminal_ends_the_sweep_cleanly(fork, words: list[str], folder: Path, tmp_path: Path) -> None:
    """The whole group of processes hears of it, as when an SSH session closes, and nobody reads any more."""
    from tadp_ray.tracking.query import rows
    from tadp_ray.tracking.store import open_store

    os.mkfifo(tmp_path / "terminal")
    reader = os.open(tmp_path / "terminal", os.O_RDONLY | os.O_NONBLOCK)
    Path(words[0]).write_text(TERMINAL + SCRIPT)
    hit = fork(*words, folder=tmp_path)
    wait_for_checkpoint(folder, hit.process)
    family = hit.process.children(recursive=True)
    os.close(reader)
    os.killpg(hit.process.pid, signal.SIGHUP)
    assert hit.end()[0] == 130
    assert not psutil.wait_procs(family, timeout=900)[1]
    store = open_store(f"sqlite:///{folder.parents[2]}/mlflow.db")
    (row,) = rows(store, "tiny")
    assert row.status == "KILLED"
    (sweep,) = store.client.search_runs([store.experiment_id("tiny")], "tags.`tadp.sweep` != ''")
    assert sweep.info.status == "KILLED"
