"""Cells that other code has trained are reused and told; asked to be strict, a sweep trains them again."""

import shutil
from pathlib import Path

import pytest
import torch

from tadp_ray.tracking.query import finished, rows, trained_cell
from tadp_ray.tracking.store import open_store
from tadp_ray.training.journal import read_journal
from tadp_ray.training.provenance import installed
from tadp_ray.training.run import train_cell
from tests.fixtures.cells import make_plan
from tests.fixtures.cli import invoke

pytestmark = pytest.mark.cluster
ONE = ("--only", "caption.precision=1.0", "--only", "caption.recall=1.0")


def test_cells_of_other_code_are_told_and_trained_again_on_demand(
    experiment: Path, empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    place = f"compute.storage={tmp_path}/runs"

    def sweep(*flags: str) -> str:
        done = invoke("sweep", experiment, "--set", place, *ONE, *flags)
        assert done.exit_code == 0, done.output
        return done.stdout

    (cell,) = make_plan(experiment, "pocket", overrides=[place], only=ONE[1::2]).selected
    train_cell(cell, torch.device("cpu"))
    said = sweep()
    assert "1 already finished, 0 to train" in said and "trained by" not in said
    store = open_store(f"sqlite:///{tmp_path}/mlflow.db")
    (first,) = rows(store, "tiny")
    store.client.set_tag(first.run_id, "tadp.version.torch", "1.0")
    journal, version = cell.folder / "journal.jsonl", installed("torch")
    assert f'"tadp.version.torch": "{version}"' in journal.read_text()
    journal.write_text(journal.read_text().replace(f'torch": "{version}"', 'torch": "1.0"'))
    said = sweep()
    assert "1 already finished, 0 to train" in said and "1 cell was trained by torch 1.0 (here " in said
    assert "use --strict-code to retrain them" in said

    said = sweep("--strict-code")
    assert "0 already finished, 1 to train" in said and "trained by" not in said
    found = finished(store, [cell.fingerprint])[cell.fingerprint]
    assert found.run_id != first.run_id and found.metrics["miou"] == first.metrics["miou"]
    assert found.run_id in (tmp_path / "runs/tiny/pocket/table.csv").read_text()
    assert [record["type"] for record in read_journal(cell.folder)].count("finished") == 1
    _, weights = trained_cell(store, first.run_id)
    assert weights.is_file() and weights.parent != cell.folder, "what other code has trained is still there"
    assert "1 already finished, 0 to train" in sweep("--strict-code")
