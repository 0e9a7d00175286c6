"""Sweep commands on real Ray, and what their tables hold when nothing happens to them."""

import csv
import gc
import json
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from typer.testing import CliRunner

from tadp_ray.training.journal import read_journal
from tests.fixtures.cells import make_plan

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

STEPS = 12
ROW = ("caption.precision=1.0",)
Table = dict[tuple[str, str], float]


def of_length(steps: int) -> tuple[str, str]:
    """What makes a cell so long, with two evaluations."""
    return f"schedule.iterations={steps}", f"evaluation.interval={steps // 2}"


class Sweep:
    """A sweep command in a working folder of its own, which trains the cells of `only`."""

    def __init__(
        self,
        command: Callable[..., Any],
        file: Path,
        folder: Path,
        *flags: str,
        steps: int = STEPS,
        only: Sequence[str] = ROW,
    ) -> None:
        self.folder = folder
        chosen = [("--set", change) for change in of_length(steps)] + [("--only", value) for value in only]
        self._words = [str(file), *(word for pair in chosen for word in pair), *flags]
        self._command = command
        self._running: Any = None

    def start(self) -> psutil.Process:
        """Start the command and return its process."""
        self._began = time.time()
        self._running = self._command("sweep", *self._words, folder=self.folder)
        return self._running.process

    def end(self) -> tuple[int, str]:
        """Wait for the command; returns its exit code and what it said."""
        return self._running.end()

    def run_here(self) -> tuple[int, str]:
        """Run the command in this process, which has imported everything, to its end; as `end`."""
        from tadp_ray.cli import app

        with chdir(self.folder):
            done = CliRunner().invoke(app, ["sweep", *self._words])
        return done.exit_code, done.output

    def table(self) -> Table:
        """The numbers of table.csv, unrounded."""
        with (self.folder / "runs/tiny/pocket/table.csv").open(newline="", encoding="utf-8-sig") as file:
            return {(row["row"], row["column"]): float(row["mean"]) for row in csv.DictReader(file) if row["mean"]}

    def wait_for_checkpoint(self, cells: int = 1) -> None:
        """Return when so many cells are in training, one of which has written a checkpoint since the command was started."""
        while self._running.running:
            journals = [list(read_journal(folder)) for folder in self.folder.glob("runs/cells/*")]
            new = [[record for record in journal if record["time"] > self._began] for journal in journals]
            at_work = [records for records in new if records and records[-1]["type"] != "finished"]
            if len(at_work) >= cells and any("checkpoint" in record for records in at_work for record in records):
                return
            time.sleep(0.02)
        raise AssertionError(f"no cell wrote a checkpoint: {self.end()}")

    def steps(self) -> list[int]:
        """Loss records of all cells, by step: what was trained, repetitions included."""
        records = [record for folder in self.folder.glob("runs/cells/*") for record in read_journal(folder)]
        return [record["step"] for record in records if "loss" in record.get("metrics", {})]

    def starts(self) -> int:
        """How often a process took up a cell."""
        journals = [read_journal(folder) for folder in self.folder.glob("runs/cells/*")]
        return sum(record["type"] == "started" for journal in journals for record in journal)


def close_sockets() -> None:
    """Ray leaves sockets open that it looked for free ports with: close them here, where nobody minds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(autouse=True)
def sockets() -> Iterator[None]:
    """What a test leaves open is closed before the next one, also by fixtures that end after this one."""
    close_sockets()
    yield
    close_sockets()


@pytest.fixture
def training() -> Callable[[psutil.Process], list[psutil.Process]]:
    """Returns the processes in which a command's cells train."""
    return lambda driver: [own for own in driver.children(recursive=True) if own.name().startswith("ray::Implicit")]


@pytest.fixture
def sweep(command: Callable[..., Any], experiment: Path, empty_database: Path, tmp_path: Path) -> Callable[..., Sweep]:
    """`sweep("a", "--seeds", "1")`: a command in folder a, whose store has its schema, which takes seconds to make."""

    def make(folder: str, *flags: str, **chosen: Any) -> Sweep:
        (tmp_path / folder).mkdir()
        shutil.copy(empty_database, tmp_path / folder / "mlflow.db")
        return Sweep(command, experiment, tmp_path / folder, *flags, **chosen)

    return make


AFTER_IMPORT = """\
import sys
from importlib.machinery import PathFinder


class Finder:
    def find_spec(name, path, target=None):
        if name != {module!r}:
            return None
        spec = PathFinder.find_spec(name, path, target)
        execute = spec.loader.exec_module

        def changed(module):
            execute(module)
            exec({code!r}, vars(module))

        spec.loader.exec_module = changed
        return spec


sys.meta_path.insert(0, Finder)
"""


@pytest.fixture
def after_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """`after_import("tadp_ray.x", "f = g")`: processes that begin after this run the code in the module when they import it."""

    def change(module: str, code: str) -> None:
        (tmp_path / "changed").mkdir()
        (tmp_path / "changed/sitecustomize.py").write_text(AFTER_IMPORT.format(module=module, code=code))
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "changed"), prepend=os.pathsep)

    return change


@pytest.fixture
def one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray finds one core, so that one process trains all cells: each process takes many seconds to start."""
    monkeypatch.setenv("RAY_OVERRIDE_RESOURCES", json.dumps({"CPU": 1}))


@pytest.fixture(scope="session")
def train_alone(
    tiny_experiment: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Table]:
    """Trains a row of cells of one length here, without Ray and MLflow; returns their table."""
    import torch

    from tadp_ray.training.run import train_cell

    def train(steps: int) -> Table:
        folder, table = tmp_path_factory.mktemp("undisturbed"), {}
        changes = [*of_length(steps), f"compute.storage={folder}/runs"]
        for cell in make_plan(tiny_experiment(folder), "pocket", overrides=changes, only=ROW).selected:
            place = str(cell.axes["caption.precision"]), str(cell.axes["caption.recall"])
            table[place] = train_cell(cell, torch.device("cpu"))["miou"]
        assert len({*table.values()}) > 1
        return table

    return train


@pytest.fixture(scope="session")
def undisturbed(train_alone: Callable[..., Table]) -> Table:
    """The table of two cells that nothing happens to."""
    return train_alone(STEPS)


@pytest.fixture
def nodes(tmp_path: Path) -> "Iterator[Cluster]":
    """A Ray cluster of two nodes of one core, to which nodes can be added and from which they can be taken.

    Each keeps what it keeps for itself in a folder of its own.
    """
    from ray.cluster_utils import Cluster

    class Nodes(Cluster):
        def add_node(self, *arguments: object, **settings: object) -> object:
            own = {"XDG_CACHE_HOME": str(tmp_path / f"node{len(self.list_all_nodes())}")}
            node = super().add_node(*arguments, env_vars=own, **settings)
            close_sockets()
            return node

    cluster = Nodes(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node()
    yield cluster
    cluster.shutdown()
