"""What is written in a journal arrives in MLflow once, whoever dies in between."""

import math
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from mlflow.entities import RunTag

from tadp_ray.errors import UserError
from tadp_ray.tracking.journal_run import JournalRun
from tadp_ray.tracking.query import finished, history, rows
from tadp_ray.tracking.run_spec import cell_run_spec
from tadp_ray.tracking.sender import Sender, replay
from tadp_ray.tracking.store import Store, open_store
from tadp_ray.tracking.sweep_run import parent


def points(store: Store, run_id: str) -> Counter:
    """How often MLflow holds each (metric, step)."""
    keys = store.client.get_run(run_id).data.metrics
    return Counter((key, m.step) for key in keys for m in store.client.get_metric_history(run_id, key))


def once(*steps: int) -> Counter:
    return Counter({(key, step): 1 for key in ("loss", "miou") for step in steps})


def test_a_finished_cell_becomes_a_child_run_with_its_recipe_and_pictures(store, make_cell, journals):
    cell = make_cell()
    journals.start(cell, tadp_version_torch="2.15.0")
    journals.train(cell, 1, 3)
    journals.finish(cell, miou=41.5, **{"iou/bed (double)": math.nan, "worst": math.inf})
    (cell.folder / "predictions.png").write_bytes(b"picture")
    (cell.folder / "model.safetensors").write_bytes(b"weights")
    (cell.folder / "per_image.jsonl").write_text("{}")
    sweep = parent(store, cell.experiment, cell.scale, "key")

    assert Sender(store, [cell_run_spec(sweep, cell)], period=0.1).close(timeout=900) == 0

    row = finished(store, [cell.fingerprint, "unknown"])[cell.fingerprint]
    assert (row.axes, row.seed, row.status) == (cell.axes, 0, "FINISHED")
    assert row.metrics["miou"] == 41.5 and row.metrics["worst"] == math.inf
    assert math.isnan(row.metrics["iou/bed (double)"])
    assert row.params["caption.precision"] == "0.5" and row.params["schedule.iterations"] == "100"
    run = store.client.get_run(row.run_id)
    assert run.info.run_name == "0.5, 0.75, seed 0"
    assert run.data.tags["mlflow.parentRunId"] == sweep
    assert run.data.tags["tadp.checkpoint"] == str(cell.folder / "model.safetensors")
    assert run.data.tags["tadp.version.torch"] == "2.15.0"
    files = {file.path for file in store.client.list_artifacts(row.run_id)}
    assert files == {"cell.json", "predictions.png", "per_image.jsonl"}
    assert history(store, row.run_id, "miou") == [(1, 0.5), (2, 1.0), (3, 1.5), (100, 41.5)]


@pytest.mark.parametrize("call", ["log_artifact", "log_batch"])
def test_a_run_is_finished_only_when_its_files_and_the_tag_of_its_weights_are_there(
    store, make_cell, journals, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """MLflow fails while it is sent one of them."""
    cell = make_cell()
    journals.start(cell)
    journals.finish(cell, miou=41.5)
    (cell.folder / "model.safetensors").write_bytes(b"weights")
    (cell.folder / "per_image.jsonl").write_text("{}")
    source, whole = cell_run_spec(parent(store, cell.experiment, cell.scale, "key"), cell), getattr(store.client, call)

    def fail(*words: object, tags: Sequence[RunTag] = (), **named: object) -> None:
        if call == "log_artifact" or "tadp.checkpoint" in {tag.key for tag in tags}:
            raise OSError("no room")
        whole(*words, tags=tags, **named)

    with monkeypatch.context() as patch, pytest.raises(UserError, match="no room"):
        patch.setattr(store.client, call, fail)
        replay(store, source)
    assert [row.status for row in rows(store, cell.experiment)] == ["RUNNING"]
    assert replay(store, source) == ("FINISHED", 1)
    (row,) = rows(store, cell.experiment)
    tags = store.client.get_run(row.run_id).data.tags
    assert (row.status, tags["tadp.checkpoint"]) == ("FINISHED", str(cell.folder / "model.safetensors"))
    assert {file.path for file in store.client.list_artifacts(row.run_id)} == {"cell.json", "per_image.jsonl"}


def test_a_cell_that_finished_after_a_failed_try_bears_no_error_and_stays_finished(store, make_cell, journals):
    cell = make_cell()
    journals.start(cell)
    journals.write(cell, type="failed", error="a disk was full " + "x" * 9000)
    source = cell_run_spec(parent(store, cell.experiment, cell.scale, "key"), cell)
    assert replay(store, source)[0] == "FAILED"
    assert [row.error for row in rows(store, cell.experiment)] == [("a disk was full " + "x" * 9000)[:5000]]
    journals.start(cell)
    journals.finish(cell, miou=41.5)
    # A process that waited for the cell's lock begins after its end, and finds it finished.
    journals.start(cell)
    assert replay(store, source)[0] == "FINISHED"
    assert [(row.status, row.error) for row in rows(store, cell.experiment)] == [("FINISHED", None)]


def test_records_that_lack_something_are_passed_over(store, make_cell, journals):
    cell = make_cell()
    journals.start(cell)
    with (cell.folder / "journal.jsonl").open("a") as file:
        for line in ("{}", "[]", '{"time": 1}', '{"type": "metrics"}', '{"time": 1, "type": "metrics", "step": 1}'):
            file.write(f"{line}\n")
        file.write('{"time": 1, "type": "finished", "metrics": {"miou": 9}}\n{"time": "x", "type": "failed"}\n')
    journals.train(cell, 2, 2)
    assert replay(store, cell_run_spec(parent(store, cell.experiment, cell.scale, "key"), cell))[0] == "KILLED"
    (row,) = rows(store, cell.experiment)
    assert row.metrics == {"loss": 0.5, "miou": 1.0}


def test_what_a_resumed_cell_repeats_is_stored_once_and_torn_lines_wait(store, make_cell, journals, wait_for):
    cell = make_cell()
    path = cell.folder / "journal.jsonl"
    journals.start(cell)
    journals.train(cell, 1, 5)
    with path.open("a") as file:
        file.write('{"type": "metrics", "step": 6, "met')
    sweep = parent(store, cell.experiment, cell.scale, "key")
    sender = Sender(store, [cell_run_spec(sweep, cell)], period=0.05)
    wait_for(lambda: rows(store, cell.experiment))
    with path.open("a") as file:
        file.write('rics": {"loss": 0.1, "miou": 3.0}, "time": 1}\n{"type": "torn by a ki\n')
    journals.start(cell)
    journals.train(cell, 4, 7)
    assert sender.close(timeout=900) == 0
    (row,) = rows(store, cell.experiment)
    assert points(store, row.run_id) == once(1, 2, 3, 4, 5, 6, 7)
    assert (row.status, row.state) == ("KILLED", "interrupted") and not finished(store, [cell.fingerprint])


def test_a_failed_cell_says_why_and_goes_on_in_the_same_run(store, make_cell, journals):
    cell, sweep = make_cell(), parent(store, "prec_recall", "pocket", "key")
    journals.start(cell)
    journals.write(cell, type="failed", error="ValueError: the data set is empty")
    assert Sender(store, [cell_run_spec(sweep, cell)], period=0.1).close(timeout=900) == 0
    (row,) = rows(store, cell.experiment)
    assert (row.status, row.state, row.error) == ("FAILED", "failed", "ValueError: the data set is empty")

    journals.start(cell)
    journals.finish(cell, miou=40.0)
    assert (
        Sender(store, [cell_run_spec(sweep, each) for each in (cell, make_cell(seed=1))], period=0.1).close(timeout=900)
        == 0
    )
    (row,) = rows(store, cell.experiment)
    assert (row.status, row.metrics) == ("FINISHED", {"miou": 40.0})


def test_a_failed_cell_brings_its_traceback(store, make_cell, journals):
    """What the driver adds after it, Ray's log, comes too."""
    cell, sweep = make_cell(), parent(store, "prec_recall", "pocket", "key")
    journals.start(cell)
    (cell.folder / "traceback.txt").write_text("Traceback of a bug")
    journals.write(cell, type="failed", error="TypeError: None", traceback="traceback.txt")
    run = JournalRun(store, cell_run_spec(sweep, cell))
    run.sync()
    (row,) = rows(store, cell.experiment)
    kept = lambda: {file.path for file in store.client.list_artifacts(row.run_id)}
    assert row.error == "TypeError: None" and "traceback.txt" in kept() and "worker.log" not in kept()
    (cell.folder / "worker.log").write_text("what it said")
    journals.write(cell, type="failed", error="TypeError: None", traceback="traceback.txt")
    run.sync()
    assert {"traceback.txt", "worker.log"} <= kept()


KILLED_DRIVER = """
import os, sys
from tadp_ray.config.cell import Cell
from tadp_ray.tracking import journal_run
from tadp_ray.tracking.run_spec import cell_run_spec
from tadp_ray.tracking.store import open_store
journal_run.METRICS_PER_BATCH = 10
store = open_store(sys.argv[1])
send, left = store.client.log_batch, int(sys.argv[4])
def log_batch(run, metrics=(), **rest):
    global left
    send(run, metrics=metrics, **rest)
    left -= bool(metrics)
    if left == 0:
        os.kill(os.getpid(), 9)
store.client.log_batch = log_batch
source = cell_run_spec(sys.argv[2], Cell.model_validate_json(sys.argv[3]))
journal_run.JournalRun(store, source).sync()
"""


@pytest.mark.slow
def test_a_driver_killed_between_batches_is_continued(store, make_cell, journals):
    cell, sweep = make_cell(), parent(store, "prec_recall", "pocket", "key")
    journals.start(cell)
    journals.train(cell, 1, 99)
    journals.finish(cell, miou=50.0, loss=0.01)
    command = [sys.executable, "-c", KILLED_DRIVER, store.uri, sweep, cell.model_dump_json()]
    for batches in (1, 3):
        assert subprocess.run([*command, str(batches)], timeout=900).returncode == -9
    (row,) = rows(store, cell.experiment)
    assert points(store, row.run_id).total() == 40 and row.status == "RUNNING"

    assert replay(store, cell_run_spec(sweep, cell)) == ("FINISHED", 161)
    assert points(store, row.run_id) == once(*range(1, 101))
    assert replay(store, cell_run_spec(sweep, cell)) == ("FINISHED", 0)
    assert list(finished(store, [cell.fingerprint])) == [cell.fingerprint]


def test_a_cell_is_known_in_every_sweep_and_the_latest_counts(store, make_cell, journals):
    here, there = make_cell(), make_cell(experiment="another")
    assert here.fingerprint == there.fingerprint
    journals.start(here)
    journals.finish(here, miou=50.0)
    replay(store, cell_run_spec(parent(store, here.experiment, "pocket", "key"), here))
    assert finished(store, [there.fingerprint])[there.fingerprint].experiment == "prec_recall"

    Sender(store, [cell_run_spec(parent(store, "another", "pocket", "key"), there)], period=0.1).close(timeout=900)
    (copy,) = rows(store, "another")
    store.client.set_terminated(copy.run_id, "FINISHED", int(time.time() * 1000) + 60_000)
    assert finished(store, [here.fingerprint])[here.fingerprint].run_id == copy.run_id
    store.client.delete_run(copy.run_id)
    assert finished(store, [here.fingerprint])[here.fingerprint].experiment == "prec_recall"


def test_the_parent_of_a_sweep_is_found_again(store):
    first = parent(store, "prec_recall", "pocket", "key")
    store.client.set_terminated(first, "KILLED")
    assert parent(store, "prec_recall", "pocket", "key") == first
    assert store.client.get_run(first).info.status == "RUNNING"
    assert parent(store, "prec_recall", "paper", "key") != first
    assert parent(store, "prec_recall", "pocket", "other") != first


def test_the_finished_record_has_the_last_word(store, make_cell, journals):
    cell, sweep = make_cell(), parent(store, "prec_recall", "pocket", "key")
    journals.start(cell)
    journals.write(cell, type="metrics", step=100, metrics={"miou": 40.0, "loss": math.inf, "accuracy": math.nan})
    assert Sender(store, [cell_run_spec(sweep, cell)], period=0.1).close(timeout=900) == 0
    # A restarted cell scores its last step again, on a machine that rounds otherwise and whose clock is behind.
    metrics = {"miou": 39.9, "loss": math.inf, "accuracy": math.nan}
    journals.write(cell, type="finished", step=100, metrics=metrics, time=time.time() - 3600)
    replay(store, cell_run_spec(sweep, cell))
    row = finished(store, [cell.fingerprint])[cell.fingerprint]
    assert row.metrics["miou"] == 39.9
    assert points(store, row.run_id) == Counter({("miou", 100): 2, ("loss", 100): 1, ("accuracy", 100): 1})


@pytest.mark.cluster
def test_an_outage_loses_nothing_and_doubles_nothing(store, make_cell, journals, free_port, tmp_path: Path, wait_for):
    from tadp_ray.tracking.dashboard import serve, stop

    cells = [make_cell(), make_cell(precision=1.0)]
    said: list[str] = []
    with serve(store, "127.0.0.1", free_port) as (address, server):
        remote = open_store(address)
        sweep = parent(remote, "prec_recall", "pocket", "key")
        sender = Sender(remote, [cell_run_spec(sweep, cell) for cell in cells], period=0.05, warn=said.append)
        for cell in cells:
            journals.start(cell)
        journals.train(cells[0], 1, 50)
        wait_for(lambda: len(rows(remote, "prec_recall")) == 2)
        stop(server, signal.SIGKILL)
    journals.train(cells[0], 51, 99)
    wait_for(lambda: said)
    journals.finish(cells[0], loss=0.01, miou=50.0)
    with serve(store, "127.0.0.1", free_port):
        assert sender.close(timeout=900) == 0
        by_fingerprint = {row.fingerprint: row for row in rows(remote, "prec_recall")}
    assert len(by_fingerprint) == 2
    assert [by_fingerprint[cell.fingerprint].status for cell in cells] == ["FINISHED", "KILLED"]
    assert points(store, by_fingerprint[cells[0].fingerprint].run_id) == once(*range(1, 101))
    assert len(said) == 2 and "does not accept records" in said[0] and "is back" in said[1]


def test_a_database_that_fails_is_told_in_one_line(store, make_cell, journals, capfd, wait_for):
    cell, sweep, said = make_cell(), parent(store, "prec_recall", "pocket", "key"), []
    journals.start(cell)
    sender = Sender(store, [cell_run_spec(sweep, cell)], period=0.05, warn=said.append)
    wait_for(lambda: rows(store, cell.experiment))
    with closing(sqlite3.connect(store.database)) as database, database:
        database.execute("drop table latest_metrics")
    journals.train(cell, 1, 2)
    wait_for(lambda: said)
    assert sender.close(timeout=1) > 0
    (line,) = said
    assert "no such table" in line and "training continues" in line and "\n" not in line
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_server_that_stays_away_holds_up_nobody_and_the_rest_is_counted(store, make_cell, journals, free_port):
    cell, sweep = make_cell(), parent(store, "prec_recall", "pocket", "key")
    away = Store(f"http://127.0.0.1:{free_port}", type(store.client)(f"http://127.0.0.1:{free_port}"))
    journals.start(cell)
    journals.train(cell, 1, 10)
    said: list[str] = []
    sender = Sender(away, [cell_run_spec(sweep, cell)], period=0.05, warn=said.append)
    began = time.monotonic()
    # 20 values, and that the cell was interrupted.
    assert sender.close(timeout=1) == 21
    assert time.monotonic() - began < 60
    assert len(said) == 1
    with pytest.raises(UserError, match="does not accept records"):
        replay(away, cell_run_spec(sweep, cell))


def test_what_a_restarted_training_repeats_keeps_its_first_value(store, make_cell, journals):
    cell, sweep = make_cell(), parent(store, "prec_recall", "pocket", "key")
    for loss in (2.0, 3.0):
        journals.start(cell)
        journals.write(cell, type="metrics", step=1, metrics={"loss": loss})
    replay(store, cell_run_spec(sweep, cell))
    (row,) = rows(store, cell.experiment)
    assert [point.value for point in store.client.get_metric_history(row.run_id, "loss")] == [2.0]
