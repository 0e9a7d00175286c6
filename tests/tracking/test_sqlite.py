"""A database is made whole or not at all, whoever is killed; one that cannot be used is named with the mend."""

import os
import random
import shutil
import signal
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

from tadp_ray.errors import UserError
from tadp_ray.tracking import sqlite
from tadp_ray.tracking.client import named_driver
from tadp_ray.tracking.query import finished
from tadp_ray.tracking.run_spec import cell_run_spec
from tadp_ray.tracking.sender import replay
from tadp_ray.tracking.store import open_store
from tadp_ray.tracking.sweep_run import parent

OPEN = """
import os, signal, sys
from sqlalchemy import event
from sqlalchemy.engine import Engine
from tadp_ray.tracking import sqlite
from tadp_ray.tracking.store import open_store

file, last = sys.argv[1], int(sys.argv[2])
fill, made = sqlite.create_tables, 0

def count(*args):
    global made
    made += 1
    if made == last:
        os.kill(os.getpid(), signal.SIGKILL)

def announced(*args):
    print("making", flush=True)
    event.listen(Engine, "after_cursor_execute", count)
    fill(*args)
    event.remove(Engine, "after_cursor_execute", count)
    print(made, flush=True)

sqlite.create_tables = announced
store = open_store(f"sqlite:///{file}")
print(store.experiment_id("mine"), flush=True)
"""


@pytest.fixture
def opener(fork, tmp_path_factory: pytest.TempPathFactory):
    """`opener(file, last=7)`: a process that opens a store; if it makes it, it says so and in how many statements.

    After the statement `last` it is killed.
    """
    program = tmp_path_factory.mktemp("opener") / "open.py"
    program.write_text(OPEN)
    return lambda file, last=0: fork(program, file, last)


@pytest.mark.cluster
def test_a_command_killed_while_it_makes_the_database_hinders_nobody(opener, tmp_path: Path) -> None:
    """Killed after statements that a seed chooses among those of the whole making; then the same command works."""
    (tmp_path / "store").mkdir()
    file = tmp_path / "store/mlflow.db"
    _, said = opener(file).end()
    making, statements, _ = said.splitlines()
    assert making == "making" and int(statements) > 100
    file.unlink()
    for last in sorted(random.Random(0).sample(range(1, int(statements)), 3)):
        assert opener(file, last).end() == (-signal.SIGKILL, "making\n")
        assert not file.exists(), last
    assert opener(file).end() == (0, f"making\n{statements}\n1\n")
    assert sorted(path.name for path in file.parent.iterdir()) == ["mlflow.db", "mlflow.db.lock"]


@pytest.mark.cluster
def test_first_commands_at_once_make_one_database(opener, tmp_path: Path) -> None:
    processes = [opener(tmp_path / "mlflow.db") for _ in range(3)]
    ended = [process.end() for process in processes]
    assert [code for code, _ in ended] == [0, 0, 0], ended
    assert [said.splitlines()[-1] for _, said in ended] == ["1"] * 3
    assert sum(said.startswith("making\n") for _, said in ended) == 1


@pytest.mark.slow
def test_what_a_killed_command_left_is_removed(tmp_path: Path, monkeypatch, empty_database: Path) -> None:
    """Of SQLite's own companions, too: the new file would be taken for what they belong to."""
    for name in ("mlflow.db", "mlflow.db-journal", "mlflow.db.part", "mlflow.db.part-wal"):
        (tmp_path / name).write_bytes(b"left" if name != "mlflow.db" else b"")
    monkeypatch.setattr(sqlite, "create_tables", lambda draft, artifacts: shutil.copy(empty_database, draft))
    store = open_store(f"sqlite:///{tmp_path}/mlflow.db")
    assert store.experiment_id("mine") == "1"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db", "mlflow.db.lock"]


NAMES = ["dir%41x", "%2e%2e", "what?", "100%", "a b", "ü", "a#b"]


@pytest.mark.parametrize("name", NAMES)
def test_a_path_becomes_a_uri_and_a_uri_the_path(name: str, tmp_path: Path) -> None:
    file = tmp_path / name / "mlflow.db"
    uri = sqlite.sqlite_uri(file)
    assert sqlite.sqlite_file(uri) == file and make_url(named_driver(uri)).database == str(file)


@pytest.mark.slow
def test_a_folder_may_have_any_name(tmp_path: Path, monkeypatch) -> None:
    """Nothing is written beside it, and its artifacts are in it."""
    folder = tmp_path.joinpath(*NAMES)
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store = open_store()
    assert store.database == folder / "mlflow.db" and store.uri == open_store("sqlite:///mlflow.db").uri
    run = parent(store, "prec_recall", "pocket", "key")
    store.client.log_dict(run, {"a": 1}, "plan.json")
    assert [file.path for file in store.client.list_artifacts(run)] == ["plan.json"]
    assert Path(store.client.download_artifacts(run, "plan.json", tempfile.mkdtemp(dir=folder))).is_file()
    files = {file.relative_to(folder).parts[0] for file in tmp_path.rglob("*") if not file.is_dir()}
    assert {"mlflow.db", "mlflow.db.lock", "mlartifacts"} <= files and len(files) == 4
    assert sum(1 for path in tmp_path.rglob("*") if path.is_dir() and path not in folder.rglob("*")) == len(NAMES)


def test_what_would_be_parameters_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="write a [?] in its path as %3F"):
        open_store(f"sqlite:///{tmp_path}/what?/mlflow.db")
    assert not list(tmp_path.iterdir())


def test_a_database_that_cannot_be_made_is_told_in_one_line(tmp_path: Path, monkeypatch) -> None:
    def refuse(draft: Path, artifacts: Path) -> None:
        raise OperationalError("create table runs", {}, sqlite3.OperationalError("unable to open database file"))

    monkeypatch.setattr(sqlite, "create_tables", refuse)
    assert "unable to open database file" in refusal(tmp_path / "mlflow.db")


def refusal(file: Path, **kwargs) -> str:
    """What is said of a file."""
    with pytest.raises(UserError) as error:
        open_store(f"sqlite:///{file}", **kwargs)
    assert "\n" not in str(error.value) and str(file) in str(error.value)
    return str(error.value)


REMEDY = "move it away and run the same sweep or training again: that creates a new one"


def test_what_is_no_database_is_named_with_the_mend(tmp_path: Path) -> None:
    text, folder, torn = tmp_path / "text.db", tmp_path / "folder.db", tmp_path / "torn.db"
    text.write_text("not a database, but a text of some length\n" * 9)
    folder.mkdir()
    torn.write_bytes(b"SQLite format 3\0" + b"\1" * 5000)
    assert f"is not a SQLite database; {REMEDY}" in refusal(text)
    assert f"is a folder, not an MLflow database; {REMEDY}" in refusal(folder)
    assert "is damaged" in refusal(torn) and REMEDY in refusal(torn)
    assert text.read_text().startswith("not a") and len(torn.read_bytes()) == 5016


def test_a_half_made_database_is_named(tmp_path: Path, empty_database: Path) -> None:
    file = Path(shutil.copy(empty_database, tmp_path / "mlflow.db"))
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("delete from experiments")
        database.execute("update alembic_version set version_num = '451aebb31d03'")
        database.execute("drop table webhooks")
    assert f"is incomplete, because the command that created it was killed; {REMEDY}" in refusal(file)


@pytest.mark.parametrize("change", ["drop table webhooks", "select 1"])
def test_an_older_schema_is_told_and_not_changed(change: str, tmp_path: Path, empty_database: Path) -> None:
    file = Path(shutil.copy(empty_database, tmp_path / "mlflow.db"))
    with closing(sqlite3.connect(file)) as database, database:
        database.execute(change)
        database.execute("update alembic_version set version_num = '451aebb31d03'")
    before = file.read_bytes()
    said = refusal(file)
    assert "451aebb31d03" in said and "mlflow db upgrade" in said and file.read_bytes() == before


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "mine.db"
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("create table music (name text)")
    assert "is another program's database; name another file" in refusal(file)
    with closing(sqlite3.connect(file)) as database, database:
        assert [name for (name,) in database.execute("select name from sqlite_master")] == ["music"]


def test_a_locked_database_is_told(tmp_path: Path, empty_database: Path, monkeypatch) -> None:
    monkeypatch.setattr("tadp_ray.tracking.sqlite.PATIENCE", 0.2)
    file = Path(shutil.copy(empty_database, tmp_path / "mlflow.db"))
    database = sqlite3.connect(file, isolation_level=None)
    database.execute("begin exclusive")
    assert "another process has locked it" in refusal(file)
    database.close()
    assert open_store(f"sqlite:///{file}").database == file


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path, empty_database: Path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be created (" in refusal(tmp_path / "file" / "mlflow.db")
    assert "cannot be created (" in refusal(Path("/proc/nowhere/mlflow.db"))
    file = Path(shutil.copy(empty_database, tmp_path / "mlflow.db"))
    able = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and able(path, mode))
    assert "cannot be written; change its permissions" in refusal(file)
    assert open_store(f"sqlite:///{file}", make=False).database == file


def test_a_database_that_was_moved_away_is_filled_again_from_the_journals(store, make_cell, journals) -> None:
    """What every mend promises."""
    cell = make_cell()
    journals.start(cell)
    journals.finish(cell, miou=50.0)
    replay(store, cell_run_spec(parent(store, "prec_recall", "pocket", "key"), cell))
    other = open_store(f"sqlite:///{store.database.with_name('other.db')}")
    replay(other, cell_run_spec(parent(other, "prec_recall", "pocket", "key"), cell))
    assert finished(other, [cell.fingerprint])[cell.fingerprint].metrics == {"miou": 50.0}
