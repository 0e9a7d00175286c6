"""Nothing ends the sender but its command: not what MLflow refuses, a bug, an output that went away, nor a bad MLflow."""

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest

from tadp_ray.errors import UserError
from tadp_ray.layout import SENDER_ERROR
from tadp_ray.tracking import journal_run
from tadp_ray.tracking.journal_run import flatten
from tadp_ray.tracking.query import finished, require_finished, rows
from tadp_ray.tracking.run_spec import RunSpec, cell_run_spec
from tadp_ray.tracking.sender import Sender, replay
from tadp_ray.tracking.sweep_run import attach, end_parent, parent


def test_a_value_that_mlflow_refuses_is_told_once_and_the_rest_flows(store, make_cell, journals, wait_for) -> None:
    cells, sweep, said = [make_cell(), make_cell(seed=1)], parent(store, "prec_recall", "pocket", "key"), []
    long = "iou/" + "x" * 250
    for cell in cells:
        journals.start(cell)
    for step in (1, 2):
        journals.write(cells[0], type="metrics", step=step, metrics={long: 1.0, "loss": 0.5, "torn": None, "miou": 2.0})
    sender = Sender(store, [cell_run_spec(sweep, cell) for cell in cells], period=0.05, warn=said.append)
    wait_for(lambda: len(said) == 2)
    journals.finish(cells[0], miou=50.0, **{long: 3.0})
    journals.finish(cells[1], miou=60.0)
    began = time.monotonic()
    assert sender.close(timeout=900) == 0 and time.monotonic() - began < 300
    first, second = (finished(store, [cell.fingerprint])[cell.fingerprint] for cell in cells)
    assert first.metrics == {"loss": 0.5, "miou": 50.0} and second.metrics == {"miou": 60.0}
    assert len(said) == 2, said
    assert all("refuses" in line and "precision=0.5 recall=0.75 seed=0" in line for line in said)
    assert "exceeds the maximum length of 250" in said[0] and "'torn'" in said[1]
    assert all(str(cells[0].folder) in line and len(line) < 1200 for line in said)
    assert replay(store, cell_run_spec(sweep, cells[0])) == ("FINISHED", 0)


def test_a_parameter_that_mlflow_refuses_keeps_nothing_else_back(store, make_cell, journals) -> None:
    cell, sweep, said = make_cell(), parent(store, "prec_recall", "pocket", "key"), []
    own = cell_run_spec(sweep, cell)
    params = {**own.params, "k" * 251: "v", "a (word)": "\0\ud800", "long": "x" * 9000}
    source = RunSpec(**{**vars(own), "params": params, "name": "n" * 300 + "\ud800"})
    journals.start(cell)
    journals.finish(cell, miou=50.0)
    sender = Sender(store, [source], period=0.05, warn=said.append)
    assert sender.close(timeout=900) == 0
    (line,) = said
    assert "k" * 251 in line and "Param key" in line
    row = finished(store, [cell.fingerprint])[cell.fingerprint]
    assert row.metrics == {"miou": 50.0} and row.params["caption.precision"] == "0.5"
    assert row.params["a :28word:29"] == r"\x00\ud800" and row.params["long"] == "x" * 6000
    assert row.params.keys() == flatten(params).keys() - {"k" * 251}


def test_axes_too_long_for_a_tag_do_not_break_what_reads_them(store, make_cell, journals) -> None:
    cell = make_cell()
    cell = cell.model_copy(update={"axes": {"caption.template": "x" * 9000}})
    journals.start(cell)
    journals.finish(cell, miou=50.0)
    replay(store, cell_run_spec(parent(store, "prec_recall", "pocket", "key"), cell))
    (row,) = rows(store, "prec_recall")
    assert (row.axes, row.metrics) == ({}, {"miou": 50.0})


def test_a_bug_is_told_once_kept_as_a_traceback_and_tried_again(
    store, make_cell, journals, monkeypatch, wait_for
) -> None:
    broken, sound = make_cell(), make_cell(seed=1)
    sweep, said, calls = parent(store, "prec_recall", "pocket", "key"), [], []
    send = journal_run.JournalRun._send

    def fails(run, places) -> None:
        if run._source.fingerprint == broken.fingerprint and len(calls) < 3:
            calls.append(run)
            raise ZeroDivisionError("of http://me:geheim@host")
        send(run, places)

    monkeypatch.setattr(journal_run.JournalRun, "_send", fails)
    for cell in (broken, sound):
        journals.start(cell)
        journals.train(cell, 1, 2)
    sender = Sender(store, [cell_run_spec(sweep, cell) for cell in (broken, sound)], period=0.02, warn=said.append)
    wait_for(lambda: len(calls) == 3)
    for cell in (broken, sound):
        journals.finish(cell, miou=50.0)
    assert sender.close(timeout=900) == 0
    assert {row.metrics["miou"] for row in finished(store, [broken.fingerprint, sound.fingerprint]).values()} == {50.0}
    assert len(finished(store, [broken.fingerprint, sound.fingerprint])) == 2
    (line,) = said
    assert (
        "a bug keeps prec_recall" in line and "ZeroDivisionError" in line and str(broken.folder / SENDER_ERROR) in line
    )
    kept = (broken.folder / SENDER_ERROR).read_text()
    assert "in fails" in kept and "geheim" not in kept + line


def test_a_bug_that_stays_is_counted_and_ends(store, make_cell, journals, monkeypatch) -> None:
    cell, sweep = make_cell(), parent(store, "prec_recall", "pocket", "key")
    monkeypatch.setattr(journal_run.JournalRun, "_read", lambda run: 1 / 0)
    sender = Sender(store, [cell_run_spec(sweep, cell)], period=0.02, warn=lambda _: None)
    began = time.monotonic()
    assert sender.close(timeout=900) == 1 and time.monotonic() - began < 300 and "a bug" in sender.error


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(5, "EIO"), ValueError("I/O operation on closed file")])
def test_an_output_that_went_away_does_not_end_the_sender(store, make_cell, journals, error, wait_for) -> None:
    cell, sweep, told = make_cell(), parent(store, "prec_recall", "pocket", "key"), []

    def gone(text: str) -> None:
        told.append(text)
        raise error

    journals.start(cell)
    journals.write(cell, type="metrics", step=1, metrics={"none": None})
    sender = Sender(store, [cell_run_spec(sweep, cell)], period=0.02, warn=gone)
    wait_for(lambda: told)
    journals.finish(cell, miou=50.0)
    assert sender.close(timeout=900) == 0 and finished(store, [cell.fingerprint])


def test_the_console_that_was_closed_is_not_told() -> None:
    """Neither a closed file nor a pipe that nobody reads is an error."""
    words = "import logging, sys, tadp_ray; {}; logging.getLogger('tadp_ray.a').error('x'); print('goes on')"
    closed = subprocess.run(
        [sys.executable, "-c", words.format("sys.stderr.close()")], capture_output=True, text=True, timeout=900
    )
    assert closed.stdout == "goes on\n"
    none = subprocess.run(
        [sys.executable, "-c", words.format("sys.stderr = None")], capture_output=True, text=True, timeout=120
    )
    assert none.stdout == "goes on\n"
    reading, writing = os.pipe()
    os.close(reading)
    piped = subprocess.run(
        [sys.executable, "-c", words.format("0")], stdout=subprocess.PIPE, stderr=writing, text=True, timeout=900
    )
    os.close(writing)
    assert piped.stdout == "goes on\n"


def test_an_experiment_deleted_in_mlflow_is_told_and_values_are_kept(
    store, make_cell, journals, capfd, wait_for
) -> None:
    cell, sweep, said = make_cell(), parent(store, "prec_recall", "pocket", "key"), []
    journals.start(cell)
    journals.train(cell, 1, 3)
    sender = Sender(store, [cell_run_spec(sweep, cell)], period=0.05, warn=said.append)
    wait_for(lambda: rows(store, "prec_recall") and rows(store, "prec_recall")[0].metrics)
    place = store.client.get_experiment_by_name("prec_recall").experiment_id
    store.client.delete_experiment(place)
    journals.train(cell, 4, 5)
    wait_for(lambda: said)
    journals.finish(cell, miou=50.0)
    assert sender.close(timeout=1) > 0
    (line,) = said
    assert "the MLflow experiment 'prec_recall' was deleted; restore it" in line and "training continues" in line
    assert "was deleted" in sender.error
    end_parent(store, sweep, "FINISHED")
    attach(store, sweep, [cell.folder / "journal.jsonl"])
    said_last = capfd.readouterr()
    assert "Traceback" not in said_last.err and "did not record that the sweep is FINISHED" in said_last.err
    store.client.restore_experiment(place)
    assert replay(store, cell_run_spec(sweep, cell))[0] == "FINISHED"
    assert finished(store, [cell.fingerprint])[cell.fingerprint].metrics["miou"] == 50.0


def test_a_run_deleted_in_mlflow_is_made_anew_and_holds_all(store, make_cell, journals, wait_for) -> None:
    cell, sweep, said = make_cell(), parent(store, "prec_recall", "pocket", "key"), []
    journals.start(cell)
    journals.train(cell, 1, 3)
    sender = Sender(store, [cell_run_spec(sweep, cell)], period=0.05, warn=said.append)
    wait_for(lambda: rows(store, "prec_recall") and rows(store, "prec_recall")[0].metrics)
    (first,) = rows(store, "prec_recall")
    store.client.delete_run(first.run_id)
    store.client.delete_run(sweep)
    journals.finish(cell, miou=50.0)
    assert sender.close(timeout=900) == 0
    (second,) = rows(store, "prec_recall")
    assert second.run_id != first.run_id and second.status == "FINISHED"
    assert second.metrics == {"loss": 1 / 3, "miou": 50.0} and said == []


def test_a_finished_cell_that_mlflow_lost_is_missed_at_the_end(store, make_cell, journals) -> None:
    cell, sweep = make_cell(), parent(store, "prec_recall", "pocket", "key")
    journals.start(cell)
    journals.finish(cell, miou=50.0)
    replay(store, cell_run_spec(sweep, cell))
    assert require_finished(store, [cell])[cell.fingerprint].metrics == {"miou": 50.0}
    store.client.delete_run(require_finished(store, [cell])[cell.fingerprint].run_id)
    with pytest.raises(UserError, match="no longer holds 1 finished cell.* such as precision=0.5 .*run this again"):
        require_finished(store, [cell])
    replay(store, cell_run_spec(sweep, cell))
    assert require_finished(store, [cell])[cell.fingerprint].metrics == {"miou": 50.0}


def test_a_database_that_is_replaced_is_told(store, empty_database, make_cell, journals, capfd, wait_for) -> None:
    cell, sweep, said = make_cell(), parent(store, "prec_recall", "pocket", "key"), []
    journals.start(cell)
    sender = Sender(store, [cell_run_spec(sweep, cell)], period=0.05, warn=said.append)
    wait_for(lambda: rows(store, "prec_recall"))
    store.database.unlink()
    shutil.copy(empty_database, store.database)
    journals.finish(cell, miou=50.0)
    wait_for(lambda: said)
    assert sender.close(timeout=1) > 0 and "removed or replaced" in sender.error
    assert "Traceback" not in capfd.readouterr().err
    with pytest.raises(UserError, match="removed or replaced"):
        replay(store, cell_run_spec(sweep, cell))


def test_a_store_that_turned_bad_ends_a_command_in_one_line(store) -> None:
    with closing(sqlite3.connect(store.database)) as database, database:
        database.execute("drop table runs")
    with pytest.raises(UserError, match="failed .*no such table") as error:
        finished(store, ["a"])
    assert "\n" not in str(error.value)
