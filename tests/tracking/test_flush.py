"""Journals are sent once, by whom ever, without the files that their trainings came from."""

import json
import shutil
from pathlib import Path

import pytest

from tadp_ray.config.cell import Cell
from tadp_ray.config.load import load_personalization
from tadp_ray.config.pretraining import ImageEncoderTraining, Pretraining
from tadp_ray.errors import UserError
from tadp_ray.files import acquire_lock
from tadp_ray.paper.personalization.job import PersonalizationJob
from tadp_ray.tracking.personalization import job_run_spec, read_job_run_spec
from tadp_ray.tracking.pretraining import pretraining_run_spec, read_pretraining_run_spec, track_pretraining
from tadp_ray.tracking.query import rows
from tadp_ray.tracking.run_spec import RunSpec, cell_run_spec, read_cell_run_spec
from tadp_ray.tracking.sender import Sender
from tadp_ray.tracking.store import Store, open_store
from tadp_ray.tracking.sweep_run import parent
from tests.fixtures.cli import invoke

TOKEN = Path(__file__).resolve().parents[2] / "experiments/personalization/pocket_token_night.yaml"


def flush(storage: Path, store: Store) -> str:
    """What the command says."""
    result = invoke("tracking", "flush", storage, "--tracking-uri", store.uri)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_what_was_written_while_mlflow_was_away_is_sent_once(store, make_cell, journals, free_port, tmp_path):
    """A finished cell, one that was killed, a pretraining, and one that another process still writes."""
    done, cut, busy = (make_cell(seed=seed) for seed in range(3))
    address = f"http://127.0.0.1:{free_port}"
    away = Store(address, type(store.client)(address))
    sweep = parent(store, "prec_recall", "pocket", "key")
    sender = Sender(away, [cell_run_spec(sweep, cell) for cell in (done, cut, busy)], period=9, warn=lambda _: None)
    for cell in (done, cut, busy):
        journals.start(cell)
    journals.train(done, 1, 3)
    journals.finish(done, miou=41.5)
    (done.folder / "predictions.png").write_bytes(b"picture")
    journals.train(cut, 1, 2)
    assert sender.close(timeout=0.1)
    with track_pretraining(store, Pretraining(), tmp_path / "runs/pocket/pretraining"):
        pass
    lines = [{"time": 1.0, "type": "started", "fingerprint": Pretraining().fingerprint}]
    lines += [{"time": 2.0, "type": "finished", "step": 7, "metrics": {"psnr": 30.0}}]
    (tmp_path / "runs/pocket/pretraining/journal.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))

    lock = acquire_lock(busy.folder / "lock")
    said = flush(tmp_path / "runs", store)
    lock.release()
    assert "prec_recall, precision=0.5 recall=0.75 seed=0: FINISHED, 8 sent" in said
    assert "prec_recall, precision=0.5 recall=0.75 seed=1: KILLED, 5 sent" in said
    assert "seed=2: skipped, because it is still being written" in said
    assert "pocket_pretraining, U-Net, seed 0, 272000 images: FINISHED, 2 sent" in said
    assert f"15 records sent to {store.uri}, from 3 of the 4 journals in" in said

    first, second = sorted(rows(store, "prec_recall"), key=lambda row: row.seed)
    assert (first.metrics["miou"], first.status, second.status) == (41.5, "FINISHED", "KILLED")
    assert {file.path for file in store.client.list_artifacts(first.run_id)} == {"cell.json", "predictions.png"}
    assert "seed=2: KILLED, 1 sent" in flush(tmp_path / "runs", store)
    assert flush(tmp_path / "runs", store).startswith("0 records sent")
    assert len(rows(store, "prec_recall")) == 3


def test_journals_of_another_store_and_of_no_known_making_are_left(
    store, make_cell, journals, empty_database, tmp_path
):
    known, unknown, torn = make_cell(), make_cell(seed=1), make_cell(seed=2)
    for cell in (known, unknown, torn):
        journals.start(cell)
    (torn.folder / "cell.json").write_text('{"name": "x')
    other_code = make_cell(seed=3)
    journals.start(other_code)
    spec = cell_run_spec("0" * 32, other_code)
    (other_code.folder / "cell.json").write_text(json.dumps({**spec.record, "recipe": {"colour": "red"}}))
    sweep = parent(store, "prec_recall", "pocket", "key")
    assert Sender(store, [cell_run_spec(sweep, known)], period=9).close(timeout=900) == 0
    other = open_store(f"sqlite:///{shutil.copy(empty_database, tmp_path / 'other.db')}")
    said = flush(tmp_path / "runs", other)
    assert f"seed=0: skipped, because {other.uri} does not hold its sweep, which was sent to another" in said
    for cell in (torn, other_code):
        assert f"{cell.folder}/cell.json: skipped, because it is incomplete or other code wrote it (" in said
    named = "cell.json or personalization.json or pretraining.json"
    assert f"{unknown.folder}: skipped, because it has no {named}" in said
    assert rows(other, "prec_recall") == []


def test_one_record_tells_all_of_a_cell_wherever_its_folder_lies(make_cell, tmp_path) -> None:
    cell = make_cell()
    spec = cell_run_spec("0" * 32, cell)
    spec.save()
    assert [path.name for path in cell.folder.iterdir()] == ["cell.json"]
    moved = cell.folder.rename(tmp_path / "moved")
    read = read_cell_run_spec(json.loads((moved / "cell.json").read_text()), moved)
    assert vars(read) == {**vars(spec), "folder": moved}
    assert Cell.of_record(read.record) == cell
    job = PersonalizationJob(
        plan=load_personalization(TOKEN), seed=3, folder=tmp_path / "look", digests={"weights": "a"}
    )
    for spec, read_spec in (
        (job_run_spec(job), read_job_run_spec),
        (pretraining_run_spec(Pretraining(seed=3), tmp_path / "pretraining"), read_pretraining_run_spec),
        (pretraining_run_spec(ImageEncoderTraining(text="a"), tmp_path / "encoder"), read_pretraining_run_spec),
    ):
        spec.save()
        (file,) = spec.folder.iterdir()
        assert file.name == spec.file and vars(read_spec(json.loads(file.read_text()), spec.folder)) == vars(spec)


@pytest.mark.parametrize("busy", [True, False])
def test_a_storage_without_journals_or_with_a_sweep_at_work_is_refused(store, make_cell, journals, tmp_path, busy):
    (tmp_path / "runs").mkdir()
    lock = acquire_lock(tmp_path / "runs/sweep.lock")
    if busy:
        journals.start(make_cell())
    result = invoke("tracking", "flush", tmp_path / "runs", "--tracking-uri", store.uri)
    lock.release()
    said = "another process is using this folder" if busy else "no journals below this folder"
    assert result.exit_code == 2 and said in result.stderr


def test_a_journal_that_cannot_be_sent_holds_up_no_other(store, make_cell, journals, monkeypatch, tmp_path) -> None:
    from tadp_ray.tracking import flush as module

    cells, sweep, sent = [make_cell(seed=seed) for seed in range(3)], parent(store, "prec_recall", "pocket", "key"), []
    for cell in cells:
        journals.start(cell)
        cell_run_spec(sweep, cell).save()
    replay = module.replay

    def refusing(store: Store, source: RunSpec) -> tuple[str, int]:
        if source.name.endswith("seed=1"):
            raise UserError("MLflow does not take this")
        sent.append(source.name)
        return replay(store, source)

    monkeypatch.setattr(module, "replay", refusing)
    said: list[str] = []
    with pytest.raises(UserError, match="1 of the 3 journals could not be sent"):
        module.flush(store, tmp_path / "runs", said.append)
    assert len(sent) == 2 and f"{cells[1].folder}: MLflow does not take this" in said
