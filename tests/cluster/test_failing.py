"""A cell that fails, on real Ray, says why, and the rest of the table is there; a bug's whole traceback is kept."""

import csv
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tadp_ray.layout import TRACEBACK, WORKER_LOG
from tadp_ray.tracking.query import rows
from tadp_ray.tracking.store import open_store
from tadp_ray.training.journal import final_metrics, read_journal
from tests.fixtures.cells import make_plan
from tests.fixtures.cli import invoke

pytestmark = pytest.mark.cluster
BUG = """\
import sys

loss = PerceptionTraining._loss


def buggy(self, *arguments):
    if self.cell.axes == {"schedule.learning_rate": 1e-3, "caption.recall": 0.5}:
        print("about to fail", file=sys.stderr)
        None + 1
    return loss(self, *arguments)


PerceptionTraining._loss = buggy
"""
NO_START = """\
import sys

if sys.argv[0].endswith("default_worker.py"):
    raise ImportError("a package is broken")
"""


@pytest.mark.parametrize(("workers", "restarts", "rates"), [(0, 1, (1e-3, 1.0)), (1, 0, (1e-3,))])
def test_a_bug_leaves_its_traceback(
    experiment: Path,
    empty_database: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    after_import: Callable[[str, str], None],
    workers: int,
    restarts: int,
    rates: tuple[float, ...],
) -> None:
    """One cell has a bug, and those of a learning rate of 1 diverge."""
    (experiment.parent / "sweep.yaml").write_text(
        f"axes: {{schedule.learning_rate: [{', '.join(map(str, rates))}], caption.recall: [0.5, 1.0]}}\n"
    )
    text = experiment.read_text().partition("  published")[0]
    experiment.write_text(text.replace("caption.precision", "schedule.learning_rate"))
    folder = tmp_path / "runs[1]"
    folder.mkdir()
    shutil.copy(empty_database, folder / "mlflow.db")
    changes = [f"compute.num_train_workers={workers}", f"compute.max_failures={restarts}"]
    changes += [f"compute.storage={folder}/[bold]x", "schedule.backbone_lr_mult=10"]
    flags = [word for change in changes for word in ("--set", change)]
    after_import("tadp_ray.training.perception", BUG)
    monkeypatch.chdir(folder)
    done = invoke("sweep", experiment, *flags)
    assert done.exit_code == 1 and "Traceback" not in done.output, done.output
    broken, whole, *diverging = make_plan(experiment, "pocket", overrides=changes).cells
    assert final_metrics(whole.folder, whole.fingerprint) is not None
    with (folder / "[bold]x/tiny/pocket/table.csv").open(newline="", encoding="utf-8-sig") as file:
        assert [(row["row"], row["column"]) for row in csv.DictReader(file) if row["mean"]] == [("0.001", "1.0")]
    for cell in diverging:
        told = rf"{re.escape(cell.name)} failed: step \d: the loss is \w+; lower schedule.learning_rate=1.0"
        assert re.search(told, done.stdout), done.stdout
    starts = [record for record in read_journal(broken.folder) if record["type"] == "started"]
    assert len(starts) == restarts + 2, "its tries and its end"

    error, trace = "TypeError: unsupported operand type(s) for +: 'NoneType' and 'int'", broken.folder / TRACEBACK
    assert f"{broken.name} failed: {error}; the whole traceback: {trace}" in done.stderr
    assert f"{broken.name} failed: {error}; the whole traceback: {trace}" in done.stdout, "the table's notes"
    assert "in buggy\n" in trace.read_text() and trace.read_text().strip().endswith(error)
    assert "about to fail" in (broken.folder / WORKER_LOG).read_text()
    store = open_store(f"sqlite:///{folder}/mlflow.db")
    (row,) = (row for row in rows(store, "tiny") if row.fingerprint == broken.fingerprint)
    assert (row.status, row.error) == ("FAILED", error)
    assert {TRACEBACK, WORKER_LOG} <= {file.path for file in store.client.list_artifacts(row.run_id)}


def test_a_cell_that_dies_too_often_says_so(sweep, training) -> None:
    changes = ("--set", "compute.checkpoint_every=2", "--set", "compute.max_failures=0")
    hit = sweep("dies", *changes, only=["caption.precision=1.0", "caption.recall=1.0"])
    driver = hit.start()
    hit.wait_for_checkpoint()
    for worker in training(driver):
        worker.kill()
    code, said = hit.end()
    assert code == 1 and "precision=1.0 recall=1.0 seed=0 failed: its process died, often because memory" in said, said
    code, said = hit.run_here()
    assert code == 0, said


def test_workers_that_cannot_start_are_told(sweep, after_import: Callable[[str, str], None]) -> None:
    """Ray says of them neither settings nor metrics."""
    after_import("tadp_ray.sweep.worker", NO_START)
    hit = sweep("unstarted", "--set", "compute.max_failures=0", only=["caption.precision=1.0", "caption.recall=1.0"])
    hit.start()
    code, said = hit.end()
    assert code == 1 and "precision=1.0 recall=1.0 seed=0 failed: ImportError: a package is broken" in said, said
