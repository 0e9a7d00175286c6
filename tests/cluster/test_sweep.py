"""Real Ray, real MLflow, real kills: whatever happens, the finished table is the undisturbed one, digit for digit."""

import csv
import gc
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import psutil
import pytest

from tadp_ray.config.errors import ConfigError
from tadp_ray.sweep.plan import make_plan
from tadp_ray.training.journal import read_journal

pytestmark = pytest.mark.cluster
STEPS = 40


class Sweep:
    """A sweep command in a working folder of its own."""

    def __init__(self, file: Path, folder: Path, *flags: str) -> None:
        self.folder = folder
        self._command = [
            sys.executable,
            "-m",
            "tadp_ray.sweep",
            str(file),
            "--set",
            f"schedule.iterations={STEPS}",
            *flags,
        ]
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> psutil.Process:
        """Start the command and return its process."""
        self._began = time.time()
        self._process = subprocess.Popen(
            self._command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        return psutil.Process(self._process.pid)

    def end(self) -> tuple[int, str]:
        """Wait for the command; returns its exit code and what it said."""
        said, _ = self._process.communicate(timeout=500)
        return self._process.returncode, said

    def run(self) -> str:
        """Run the command to its end and return what it said."""
        self.start()
        code, said = self.end()
        assert code == 0, said
        return said

    def table(self) -> dict[tuple[str, str], float]:
        """The numbers of table.csv, unrounded."""
        with (self.folder / "runs/tiny/pocket/table.csv").open(newline="") as file:
            return {(row["row"], row["column"]): float(row["mean"]) for row in csv.DictReader(file) if row["mean"]}

    def wait_for_checkpoint(self) -> None:
        """Return when some cell has written a checkpoint since the command was started, and is still training."""
        deadline = time.monotonic() + 400
        while time.monotonic() < deadline:
            for folder in self.folder.glob("runs/cells/*"):
                records = [record for record in read_journal(folder) if record["time"] > self._began]
                if any("checkpoint" in record for record in records) and records[-1]["type"] != "finished":
                    return
            time.sleep(0.02)
        raise AssertionError("no cell wrote a checkpoint within minutes")

    def steps(self) -> list[int]:
        """Loss records of all cells, by step: what was trained, repetitions included."""
        records = [record for folder in self.folder.glob("runs/cells/*") for record in read_journal(folder)]
        return [record["step"] for record in records if "loss" in record.get("metrics", {})]

    def starts(self) -> int:
        """How often a process took up a cell."""
        journals = [read_journal(folder) for folder in self.folder.glob("runs/cells/*")]
        return sum(record["type"] == "started" for journal in journals for record in journal)


def training(driver: psutil.Process) -> list[psutil.Process]:
    """The processes in which a sweep's cells train."""
    return [process for process in driver.children(recursive=True) if process.name().startswith("ray::Implicit")]


@pytest.fixture
def sweep(experiment: Path, empty_database: Path, tmp_path: Path):
    """`sweep("a", "--seeds", "1")`: a command in folder a, whose store has its schema, which takes seconds to make."""

    def make(folder: str, *flags: str) -> Sweep:
        (tmp_path / folder).mkdir()
        shutil.copy(empty_database, tmp_path / folder / "mlflow.db")
        return Sweep(experiment, tmp_path / folder, *flags)

    return make


@pytest.fixture
def nodes(tmp_path: Path):
    """A Ray cluster of three nodes of one core, to which nodes can be added and from which they can be taken.

    Each keeps what it keeps for itself in a folder of its own.
    """
    from ray.cluster_utils import Cluster

    class Nodes(Cluster):
        def add_node(self, *arguments: object, **settings: object) -> object:
            own = {"XDG_CACHE_HOME": str(tmp_path / f"node{len(self.list_all_nodes())}")}
            return super().add_node(*arguments, env_vars=own, **settings)

    cluster = Nodes(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node()
    cluster.add_node()
    with warnings.catch_warnings():
        # Ray leaves a socket open that it looked for a free port with.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="module")
def undisturbed() -> dict[tuple[str, str], float]:
    """The table of a sweep that nothing happened to; filled by the first test."""
    return {}


def test_a_finished_sweep_is_never_trained_again(sweep, undisturbed) -> None:
    first = sweep("runs0")
    said = first.run()
    assert "4 to train" in said and "published 63.29" in said
    undisturbed |= first.table()
    assert len(undisturbed) == 4 and len(set(undisturbed.values())) > 1
    trained = first.steps()
    for name in ("table.md", "table.tex", "table.html", "table.png", "curves.png"):
        (first.folder / "runs/tiny/pocket" / name).unlink()
    assert "4 finished before, 0 to train" in first.run()
    assert first.table() == undisturbed and first.steps() == trained
    assert (first.folder / "runs/tiny/pocket/curves.png").is_file()


@pytest.mark.parametrize("workers", [0, 1])
def test_killed_worker(sweep, undisturbed, workers: int) -> None:
    """Ray restarts it, and it goes on from its checkpoint; every digit is that of no fault and of no Ray Train.

    A Ray Train worker trains its cells one after another, so that one that was killed finds some of them finished.
    """
    part = ("--set", "compute.checkpoint_every=4", "--set", f"compute.num_train_workers={workers}")
    hit = sweep(f"killed_worker{workers}", *part)
    driver = hit.start()
    hit.wait_for_checkpoint()
    killed = training(driver)
    assert killed
    for process in killed:
        process.kill()
    code, said = hit.end()
    assert code == 0 and "going on from its last checkpoint" in said and "Traceback" not in said, said
    assert hit.table() == undisturbed


def test_stopped_and_started_again(sweep, undisturbed) -> None:
    """Whether the command is killed or told to stop, its cells stop with it, and the same command goes on.

    (Two idle helpers of Ray's notice after a minute that their command was killed, and leave.)
    """
    hit = sweep("stopped", "--set", "compute.checkpoint_every=4")
    for how in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM):
        driver = hit.start()
        hit.wait_for_checkpoint()
        family = training(driver) if how == signal.SIGKILL else driver.children(recursive=True)
        assert family
        driver.send_signal(how)
        code, said = hit.end()
        assert not psutil.wait_procs(family, timeout=300)[1]
        if how != signal.SIGKILL:
            assert code == 130 and "the same command goes on from here" in said and "Traceback" not in said, said
    hit.run()
    assert hit.table() == undisturbed


@pytest.mark.parametrize("storage", ["a shared folder", "an object store"])
def test_a_node_dies_and_another_joins(sweep, undisturbed, nodes, object_store: str, storage: str) -> None:
    """Of three nodes one is killed with the cell that trains there; a fourth one takes it up."""
    address = {"a shared folder": "runs", "an object store": object_store.replace("bucket?", "bucket/runs?")}[storage]
    part = ("--set", "compute.checkpoint_every=4", "--set", f"compute.storage={address}")
    hit = sweep("nodes", *part, "--address", nodes.address)
    hit.start()
    hit.wait_for_checkpoint()
    nodes.remove_node(min(nodes.worker_nodes, key=lambda node: node.unique_id), allow_graceful=False)
    nodes.add_node()
    code, said = hit.end()
    assert code == 0 and "training 3 cells at once" in said, said
    assert hit.table() == undisturbed and hit.starts() > 4


def test_two_ray_train_workers_give_the_same_numbers(sweep, undisturbed) -> None:
    """Sums are made in another order, which 40 steps turn into less than a point of mIoU."""
    part = ["--only", "caption.precision=1.0", "--only", "caption.recall=1.0"]
    hit = sweep("workers2", "--set", "compute.num_train_workers=2", *part)
    hit.run()
    assert hit.table()["1.0", "1.0"] == pytest.approx(undisturbed["1.0", "1.0"], abs=1.0, rel=0)


def test_a_failing_cell_leaves_the_others_alone(sweep, experiment: Path, undisturbed) -> None:
    """A learning rate that diverges fails its cells with a message, and the rest of the table is there."""
    (experiment.parent / "sweep.yaml").write_text(
        "axes: {schedule.learning_rate: [1e-3, 1.0], caption.recall: [1.0]}\n"
    )
    text = experiment.read_text().partition("  published")[0]
    experiment.write_text(text.replace("caption.precision", "schedule.learning_rate"))
    hit = sweep("failing", "--set", "schedule.backbone_lr_mult=10")
    hit.start()
    code, said = hit.end()
    assert code == 1 and "the loss is" in said and "lower schedule.learning_rate=1.0" in said, said
    assert list(hit.table()) == [("0.001", "1.0")]
    with pytest.raises(ConfigError):
        make_plan(experiment, "pocket", only=["schedule.learning_rate=2"])


def test_a_cell_that_dies_too_often_says_so(sweep) -> None:
    part = ["--only", "caption.precision=1.0", "--only", "caption.recall=1.0"]
    hit = sweep("dies", "--set", "compute.checkpoint_every=4", "--set", "compute.max_failures=0", *part)
    driver = hit.start()
    hit.wait_for_checkpoint()
    for worker in training(driver):
        worker.kill()
    code, said = hit.end()
    assert code == 1 and "precision=1.0 recall=1.0 seed=0 failed: " in said, said
    hit.run()
