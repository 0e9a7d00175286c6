"""What list, status, logs, stop and gc say of sweeps, and what they do."""

import json
import math
import os
import shlex
import socket
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from typer.testing import CliRunner

from tadp_ray.cli import app
from tadp_ray.config.cell import Cell
from tadp_ray.config.compute import ComputeConfig
from tadp_ray.errors import UserError
from tadp_ray.files import acquire_lock
from tadp_ray.sweep import cleaning, process
from tadp_ray.sweep.running import announced, running_sweep
from tadp_ray.sweep.states import cell_report, cells_with
from tadp_ray.sweep.storage import locked_storage
from tests.fixtures.cells import make_plan


@pytest.fixture
def run(store, tmp_path: Path):
    """Runs a command on this test's store and storage folder; `json=True` reads what it prints."""

    def invoke(*words: str, json_too: bool = False, stdin: str | None = None):
        places = ["--storage", f"{tmp_path}/runs"]
        places += [] if words[0] == "stop" else ["--tracking-uri", store.uri]
        done = CliRunner().invoke(app, [*words, *places, *(["--json"] if json_too else [])], input=stdin)
        if not json_too:
            return done
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    return invoke


@pytest.fixture
def cells(experiment: Path, swept, tmp_path: Path) -> tuple[Cell, ...]:
    """The four cells of a sweep, of which the last was not started."""
    swept(experiment)
    return make_plan(experiment, "pocket", overrides=[f"compute.storage={tmp_path}/runs"]).cells


def test_sweeps_are_listed_with_their_states(run, cells, store, tmp_path: Path) -> None:
    (found,) = run("list", json_too=True)
    assert (found["name"], found["scale"], found["finished"], found["cells"]) == ("tiny", "pocket", 3, 4)
    assert found["state"] == "elsewhere or killed" and found["settings"].startswith("recipe recipe")
    store.client.set_terminated(found["run_id"], "KILLED")
    assert run("list", json_too=True)[0]["state"] == "stopped"
    said = run("list").stdout
    assert "tiny" in said and "3/4" in said and "stopped" in said
    lock = acquire_lock(tmp_path / "runs/sweep.lock")
    with announced(tmp_path / "runs", "tiny", "pocket", found["run_id"]):
        assert run("list", json_too=True)[0]["state"] == "running"
        assert run("status", json_too=True)["running"]
    lock.release()


def test_an_empty_store_lists_nothing(run) -> None:
    assert run("list", json_too=True) == []
    assert "holds no sweep" in run("list").stdout
    done = run("status")
    assert done.exit_code == 2 and "holds no sweep; run one first" in done.stderr


def test_cells_have_the_states_of_their_journals(run, cells, journals, store, tmp_path: Path) -> None:
    journals.start(cells[3])
    journals.write(cells[3], type="metrics", step=2, metrics={"loss": 1.0})
    found = run("status", "tiny", json_too=True)["cells"]
    assert [cell["state"] for cell in found] == ["finished"] * 3 + ["interrupted"]
    assert [cell["step"] for cell in found] == [6, 6, 6, 2] and [cell["miou"] for cell in found][:3] == [10, 20, 30]
    (cells[3].folder / "alive.json").write_text("{}")
    assert run("status", json_too=True)["cells"][3]["state"] == "training"
    old = time.time() - 100
    os.utime(cells[3].folder / "alive.json", (old, old))
    assert run("status", json_too=True)["cells"][3]["state"] == "interrupted"
    journals.write(cells[3], type="failed", error="out of [memory]")
    said = run("status").stdout
    assert "3 finished, 1 failed" in said and f"{cells[3].name}: out of [memory]" in said
    (line,) = (line for line in said.splitlines() if "tadp-ray logs" in line)
    _, *command = shlex.split(line)
    assert command[1] == cells[3].fingerprint[:8] and run(*command[:2]).exit_code == 0
    assert command[2:] == ["--tracking-uri", store.uri, "--storage", f"{tmp_path}/runs"]
    done = run("status", "tinny")
    assert done.exit_code == 2 and "did you mean 'tiny'" in done.stderr


def test_times_are_those_of_this_machine(run, cells, monkeypatch: pytest.MonkeyPatch) -> None:
    """In `list` as in `logs`."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        (sweep,) = run("list", json_too=True)
        there = datetime.fromisoformat(sweep["started"]).astimezone(ZoneInfo("Asia/Tokyo"))
        said = run("list").stdout
        began = run("logs", cells[0].fingerprint[:8], json_too=True)["journal"][0]["time"]
        logged = run("logs", cells[0].fingerprint[:8]).stdout
    time.tzset()
    assert f"{there:%Y-%m-%d %H:%M}" in said
    assert f"{datetime.fromtimestamp(began, ZoneInfo('Asia/Tokyo')):%Y-%m-%d %H:%M:%S}  started" in logged


def test_cells_that_only_their_journals_hold_as_finished_are_told(run, cells, journals) -> None:
    """As after their runs were deleted in MLflow, where another sweep had trained them."""
    assert "MLflow lacks" not in run("status").stdout
    journals.start(cells[3])
    journals.finish(cells[3], miou=40.0)
    said = run("status").stdout
    assert "4 finished" in said and "MLflow lacks 1 finished cell, and so do tables; run the sweep again" in said
    assert [cell["unsent"] for cell in run("status", json_too=True)["cells"]].count(True) == 1


def test_a_score_that_is_no_number_is_null_in_json(run, cells, journals) -> None:
    journals.start(cells[3])
    journals.write(cells[3], type="metrics", step=3, metrics={"loss": math.inf, "miou": math.nan})
    for words in (["status"], ["logs", cells[3].fingerprint[:8]]):
        assert "null" in run(*words, "--json").stdout
        json.loads(run(*words, "--json").stdout, parse_constant=pytest.fail)


def test_the_cells_of_a_sweep_that_was_stopped_are_interrupted_at_once(run, cells, journals, store) -> None:
    """Though their last heartbeats are fresh."""
    from tadp_ray.tracking.run_spec import cell_run_spec
    from tadp_ray.tracking.sender import replay

    journals.start(cells[3])
    journals.write(cells[3], type="metrics", step=2, metrics={"loss": 1.0})
    (cells[3].folder / "alive.json").write_text("{}")
    replay(store, cell_run_spec(run("list", json_too=True)[0]["run_id"], cells[3]))
    report = run("status", json_too=True)["cells"][3]
    assert (report["state"], report["step"]) == ("interrupted", 2)


def test_a_finished_cell_that_is_trained_again_is_in_training(run, cells, journals) -> None:
    journals.start(cells[0])
    journals.write(cells[0], type="metrics", step=2, metrics={"loss": 1.0})
    assert run("status", json_too=True)["cells"][0]["state"] == "finished", "nobody trains it"
    (cells[0].folder / "alive.json").write_text("{}")
    report = run("status", json_too=True)["cells"][0]
    assert (report["state"], report["step"]) == ("training", 2)
    journals.write(cells[0], type="failed", error="out of memory")
    assert run("status", json_too=True)["cells"][0]["state"] == "finished", "MLflow still holds the first result"


def test_a_cell_that_nobody_started_is_not_started(make_cell) -> None:
    report = cell_report(make_cell(), None, None)
    assert (report.state, report.step, report.score, report.run_id) == ("not started", 0, None, None)


@pytest.mark.parametrize(("age", "state"), [(100, "training"), (700, "interrupted")])
def test_a_cell_at_an_address_is_in_training_while_its_journal_grows(
    make_cell, journals, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, age: float, state: str
) -> None:
    """Its heartbeats are not copied to this machine."""
    monkeypatch.chdir(tmp_path)
    cell = make_cell()
    recipe = cell.recipe.model_copy(update={"compute": ComputeConfig(storage="s3://b/r")})
    cell = cell.model_copy(update={"recipe": recipe})
    journals.start(cell)
    written = time.time() - age
    os.utime(cell.folder / "journal.jsonl", (written, written))
    assert cell_report(cell, None, None).state == state


def test_status_and_logs_are_of_the_sweep_that_runs_and_not_of_the_newest(
    run, cells, experiment: Path, swept, tmp_path: Path
) -> None:
    (tmp_path / "sweep.yaml").write_text("axes: {caption.precision: [0.25, 0.75], caption.recall: [0.5, 1.0]}\n")
    swept(experiment.rename(tmp_path / "newest.yaml"))
    newest, tiny = run("list", json_too=True)
    assert run("status", json_too=True)["name"] == newest["name"] == "newest"
    lock = acquire_lock(tmp_path / "runs/sweep.lock")
    with announced(tmp_path / "runs", "tiny", "pocket", tiny["run_id"]):
        assert run("status", json_too=True)["name"] == "tiny"
        assert run("logs", "precision=0.5", "recall=1.0", json_too=True)["fingerprint"] == cells[1].fingerprint
    lock.release()


@pytest.mark.parametrize(
    "words", [["precision=1.0", "recall=1.0"], ["caption.precision=1", "caption.recall=1", "seed=0"], ["FINGERPRINT"]]
)
def test_a_cell_s_log_is_found_by_its_values_and_its_fingerprint(run, cells, journals, words: list[str]) -> None:
    journals.start(cells[3])
    journals.write(cells[3], type="metrics", step=1, metrics={"loss": 1.0})
    journals.write(cells[3], type="metrics", step=3, metrics={"loss": 1.0, "miou": 41.25}, checkpoint="c")
    journals.write(cells[3], type="failed", error="ValueError: [odd]", traceback="traceback.txt")
    (cells[3].folder / "traceback.txt").write_text("Traceback (most recent call last):\nValueError: [odd]\n")
    (cells[3].folder / "worker.log").write_text("==> worker-1.err\nhello\n")
    done = run("logs", *(cells[3].fingerprint[:8] if word == "FINGERPRINT" else word for word in words))
    assert done.exit_code == 0, done.output
    header, *lines = done.stdout.splitlines()
    assert header.startswith(f"{cells[3].name}, {cells[3].fingerprint[:16]}, ")
    assert [line.partition("  ")[2] for line in lines[:3]] == [
        "started by process unknown",
        "step 3/6, miou 41.25, checkpoint",
        "failed: ValueError: [odd]",
    ]
    assert lines[3:] == [
        "--- traceback",
        "Traceback (most recent call last):",
        "ValueError: [odd]",
        "--- output of its processes",
        "==> worker-1.err",
        "hello",
    ]


def test_a_log_by_run_id_and_as_json(run, cells) -> None:
    run_id = run("status", json_too=True)["cells"][1]["run_id"]
    found = run("logs", run_id, json_too=True)
    assert found["fingerprint"] == cells[1].fingerprint and found["traceback"] is None
    assert [record["type"] for record in found["journal"]] == ["started", "metrics", "finished"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["precision=1.0"], "2 cells fit, name more: precision=1.0 recall=0.5 seed=0"),
        (["precision=7"], "no cell fits; there are: precision=0.5"),
        (["abc"], "abc: no value of the sweep's cells; name at least 6 digits of a fingerprint"),
        (["1"], "1: may be of caption.precision or caption.recall"),
        (["000000ab"], "no cell fits"),
        (["precision=1.0", "abcdef"], "no cell fits; there are: precision=0.5"),
    ],
)
def test_a_cell_that_is_not_the_only_one_is_asked_for_again(run, cells, words: list[str], said: str) -> None:
    done = run("logs", *words)
    assert done.exit_code == 2 and said in done.stderr


def test_a_short_name_means_one_axis_or_is_refused(make_cell) -> None:
    axes = {"data.seed": 7, "augment.resize": 64, "evaluation.resize": 32}
    cell = make_cell(seed=3).model_copy(update={"axes": axes})
    assert cells_with([cell], ["seed=3"]) == [cell] and not cells_with([cell], ["seed=7"])
    assert cells_with([cell], ["data.seed=7", "augment.resize=64", "evaluation.resize=32.0"])
    assert not cells_with([cell], ["augment.resize=32"])
    with pytest.raises(
        UserError, match="^resize=32: may be of augment.resize or evaluation.resize; name one of them in full$"
    ):
        cells_with([cell], ["resize=32"])
    alone = cell.model_copy(update={"axes": {"augment.resize": 64}})
    assert cells_with([alone], ["resize=64"]) and not cells_with([alone], ["size=64"])


def test_a_cell_is_named_by_the_heading_of_its_group_or_by_yaml(make_cell) -> None:
    groups = [{"source": "oracle"}, {"source": "null"}, {"source": "store", "store": "mine.jsonl"}]
    cells = [make_cell(seed=k).model_copy(update={"axes": {"caption": group}}) for k, group in enumerate(groups)]
    assert [cell.name for cell in cells[:2]] == ["caption=oracle seed=0", "caption=null seed=1"]
    assert cells[2].short_name == "store mine.jsonl, seed 2"
    for word in ("oracle", "caption=oracle", "caption={source: oracle}", "{source: oracle}"):
        assert cells_with(cells, [word, "seed=0"]) == cells[:1]
    assert cells_with(cells, ["caption=store mine.jsonl"]) == cells[2:]
    timesteps = [make_cell(seed=0).model_copy(update={"axes": {"model.timestep": value}}) for value in (1, [1, 50])]
    assert cells_with(timesteps, ["timestep=[1,50]"]) == timesteps[1:]


def test_what_a_failed_cell_of_another_machine_left_comes_from_mlflow(run, cells, journals, store) -> None:
    from tadp_ray.tracking.run_spec import cell_run_spec
    from tadp_ray.tracking.sender import replay

    journals.start(cells[3])
    (cells[3].folder / "traceback.txt").write_text("Traceback of there\n")
    journals.write(cells[3], type="failed", error="E", traceback="traceback.txt")
    replay(store, cell_run_spec(run("list", json_too=True)[0]["run_id"], cells[3]))
    for file in cells[3].folder.iterdir():
        file.unlink()
    assert run("status", json_too=True)["cells"][3]["state"] == "failed"
    said = run("logs", cells[3].fingerprint[:8]).stdout
    assert "no journal of it is on this machine" in said and "Traceback of there" in said


SWEEP = """\
import sys, time
from pathlib import Path
from tadp_ray.cli.common import Commands
from tadp_ray.files import acquire_lock
from tadp_ray.sweep.running import announced
storage, app = Path(sys.argv[1]), Commands(pretty_exceptions_enable=False)

@app.command()
def train() -> None:
    lock = acquire_lock(storage / "sweep.lock")
    with announced(storage, "mine", "pocket", "r1"):
        print("ready", flush=True)
        try:
            time.sleep(600)
        finally:
            (storage / "ended").write_text("cleanly")

app([])
"""


def test_a_running_sweep_is_stopped_as_by_ctrl_c(run, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    shell = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", SWEEP, str(tmp_path / "runs")], **shell) as process:
        assert process.stdout.readline() == "ready\n"
        found = running_sweep(tmp_path / "runs")
        assert (found.name, found.pid, found.host) == ("mine", process.pid, socket.gethostname())
        done = run("stop")
        assert done.exit_code == 0 and "mine (pocket scale) was stopped" in done.stdout, done.output
        assert process.wait(600) == 130 and "run the same command again to resume" in process.stderr.read()
    assert (tmp_path / "runs/ended").read_text() == "cleanly"
    assert not (tmp_path / "runs/sweep.json").exists() and running_sweep(tmp_path / "runs") is None


def test_what_does_not_run_here_is_not_stopped(run, tmp_path: Path) -> None:
    done = run("stop")
    assert done.exit_code == 2 and "no sweep is running here" in done.stderr
    (tmp_path / "runs").mkdir()
    lock = acquire_lock(tmp_path / "runs/sweep.lock")
    assert "another command has only just begun here; try again" in run("stop").stderr
    mark = tmp_path / "runs/sweep.json"
    with announced(tmp_path / "runs", "tiny", "pocket", "r1"):
        facts = json.loads(mark.read_text())
        mark.write_text(json.dumps(facts | {"host": "elsewhere"}))
        assert "tiny runs on another machine, elsewhere" in run("stop").stderr
        mark.write_text(json.dumps(facts | {"pid": 2**22 + 1, "process": None}))
        assert "cannot be stopped from here" in run("stop").stderr
        mark.write_text(json.dumps(facts))
    lock.release()
    # The mark of a sweep that was killed says nothing.
    mark.write_text(json.dumps(facts))
    assert running_sweep(tmp_path / "runs") is None


@pytest.mark.parametrize("there", ["a later process", "none"])
def test_a_process_that_has_a_killed_sweep_s_id_is_not_stopped(run, tmp_path: Path, there: str) -> None:
    """The lock is held by a command that has not said what it is."""
    (tmp_path / "runs").mkdir()
    lock, mark = acquire_lock(tmp_path / "runs/sweep.lock"), tmp_path / "runs/sweep.json"
    with subprocess.Popen(["sleep", "600"]) as other:
        try:
            with announced(tmp_path / "runs", "tiny", "pocket", "r1"):
                facts = json.loads(mark.read_text())
                mark.write_text(json.dumps(facts | {"pid": other.pid if there == "a later process" else 2**22 + 1}))
                done = run("stop")
                assert done.exit_code == 2 and "has only just begun here" in done.stderr
                assert other.poll() is None
        finally:
            other.kill()
    lock.release()


def test_without_proc_the_id_alone_tells_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert process.process_identity(os.getpid()) == process.process_identity(os.getpid())
    assert process.process_identity(os.getpid()) != process.process_identity(os.getppid())
    monkeypatch.setattr(process, "PROC", tmp_path / "none")
    (tmp_path / "runs").mkdir()
    lock = acquire_lock(tmp_path / "runs/sweep.lock")
    with announced(tmp_path / "runs", "tiny", "pocket", "r1"):
        found = running_sweep(tmp_path / "runs")
        assert (found.pid, found.process) == (os.getpid(), None)
    lock.release()


def test_who_takes_the_lock_deletes_the_mark_of_a_killed_sweep(tmp_path: Path) -> None:
    compute = ComputeConfig(storage=str(tmp_path / "runs"))
    with locked_storage(compute):
        with announced(tmp_path / "runs", "tiny", "pocket", "r1"):
            left = (tmp_path / "runs/sweep.json").read_text()
    (tmp_path / "runs/sweep.json").write_text(left)
    with locked_storage(compute):
        assert running_sweep(tmp_path / "runs") is None and not (tmp_path / "runs/sweep.json").exists()


@pytest.fixture
def files(cells) -> dict[str, Path]:
    """Files of finished cells, and the checkpoint of one that is not."""
    made = {}
    for number, cell in enumerate(cells):
        cell.folder.mkdir(parents=True, exist_ok=True)
        names = ("checkpoint.safetensors", "predictions.png", "model.safetensors", "per_image.jsonl")
        for name in names:
            made[f"{number}/{name}"] = cell.folder / name
            made[f"{number}/{name}"].write_bytes(b"x" * 1000)
        if number < 3:
            (cell.folder / "cell.json").write_text(cell.model_dump_json())
    (cells[3].folder / "cell.json").write_text(cells[3].model_dump_json())
    return made


def left(files: dict[str, Path]) -> set[str]:
    """The files that are still there."""
    return {name for name, file in files.items() if file.is_file()}


def test_files_of_finished_cells_alone_are_deleted_and_first_shown(run, files) -> None:
    found = run("gc", json_too=True)
    assert [(each["rule"], each["cells"], each["bytes"]) for each in found] == [
        ("checkpoints", 3, 3000),
        ("predictions", 3, 3000),
    ]
    assert all(each["loss"] is None for each in found) and left(files) == {*files}
    done = run("gc", stdin="n\n")
    assert "Delete these files?" in done.stdout and left(files) == {*files}
    done = run("gc", stdin="y\n")
    gone = {f"{number}/{name}" for number in range(3) for name in ("checkpoint.safetensors", "predictions.png")}
    assert "deleted 0.0 MiB" in done.stdout and left(files) == {*files} - gone
    assert "nothing to delete" in run("gc").stdout


def train_again(cell: Cell, journals) -> Path:
    """What `--strict-code` does with a finished cell: its folder is moved away, and a training begins; returns its checkpoint."""
    cell.folder.rename(cell.folder.with_name(f"{cell.folder.name}.7"))
    journals.start(cell)
    (cell.folder / "cell.json").write_text(cell.model_dump_json())
    (cell.folder / "checkpoint.safetensors").write_bytes(b"x" * 1000)
    return cell.folder / "checkpoint.safetensors"


def test_a_cell_that_is_trained_again_keeps_its_checkpoint(run, files, cells, journals) -> None:
    """MLflow still holds the earlier result as finished; of that, the checkpoint goes."""
    again = train_again(cells[0], journals)
    (found,) = run("gc", "checkpoints", json_too=True)
    earlier = cells[0].folder.with_name(f"{cells[0].folder.name}.7") / "checkpoint.safetensors"
    assert str(again) not in found["files"] and str(earlier) in found["files"] and found["cells"] == 3
    lock = acquire_lock(cells[1].folder / "lock")
    assert run("gc", "checkpoints", json_too=True)[0]["cells"] == 2
    lock.release()
    run("gc", "checkpoints", "--yes")
    assert again.is_file() and not earlier.exists() and not files["1/checkpoint.safetensors"].exists()


def test_what_mlflow_does_not_hold_yet_is_kept(run, files, cells, journals) -> None:
    """Of a cell that was trained again while MLflow was away, MLflow holds the earlier training as finished."""
    again = train_again(cells[0], journals).with_name("predictions.png")
    again.write_bytes(b"x" * 1000)
    journals.finish(cells[0], miou=1.0)
    (found,) = run("gc", "predictions", json_too=True)
    earlier = cells[0].folder.with_name(f"{cells[0].folder.name}.7") / "predictions.png"
    assert str(again) not in found["files"] and str(earlier) in found["files"] and found["cells"] == 3


def test_a_cell_that_is_trained_again_while_the_question_waits_keeps_its_checkpoint(
    store, files, cells, journals, tmp_path: Path
) -> None:
    found = cleaning.removable(store, tmp_path / "runs", ["checkpoints"])
    assert files["0/checkpoint.safetensors"] in found[0].files
    again = train_again(cells[0], journals)
    assert cleaning.delete(found) == 2000 and again.is_file()


def test_weights_are_deleted_only_if_named_and_what_is_lost_is_said(run, files) -> None:
    done = run("gc", "weights", "--yes")
    assert "weights of 3 cells: predict, load_trained" in " ".join(done.stdout.split())
    assert {*files} - left(files) == {f"{number}/model.safetensors" for number in range(3)}
    done = run("gc", "weigths", "--yes")
    assert done.exit_code == 2 and "did you mean 'weights'" in done.stderr


def test_rules_by_age_and_by_sweep(run, files) -> None:
    for name, days in (("1/checkpoint.safetensors", 3), ("2/checkpoint.safetensors", 1)):
        written = time.time() - days * 86400
        os.utime(files[name], (written, written))
    (found,) = run("gc", "checkpoints", "--older-than", "2", json_too=True)
    assert found["files"] == [str(files["1/checkpoint.safetensors"])]
    (none,) = run("gc", "checkpoints", "--sweep", "other", json_too=True)
    assert (none["cells"], none["files"]) == (0, [])
    assert run("gc", "checkpoints", "--sweep", "tiny", json_too=True)[0]["cells"] == 3


def test_shipped_files_are_listed_as_json() -> None:
    done = CliRunner().invoke(app, ["ls", "experiments", "--json"])
    found = json.loads(done.stdout)
    assert [*found] == ["experiments"] and {"name", "summary", "paper"} == {*found["experiments"][0]}
    assert "prec_recall" in [each["name"] for each in found["experiments"]]


def test_list_and_ls_say_how_they_differ() -> None:
    assert "`ls` lists the shipped files" in " ".join(CliRunner().invoke(app, ["list", "--help"]).stdout.split())
    assert "`list` lists the sweeps that were run" in " ".join(CliRunner().invoke(app, ["ls", "--help"]).stdout.split())
