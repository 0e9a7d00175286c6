"""A working folder that was moved or copied has its own files, and writes to no other folder."""

import fcntl
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tadp_ray.errors import UserError
from tadp_ray.tracking import moved
from tadp_ray.tracking.query import trained_cell
from tadp_ray.tracking.run_spec import cell_run_spec
from tadp_ray.tracking.sender import replay
from tadp_ray.tracking.sqlite import sqlite_uri
from tadp_ray.tracking.store import Store, open_store
from tadp_ray.tracking.sweep_run import newest_sweep, parent, read_sweep, record_plan, show_table

SAID = "moved or copied from"


def opened(folder: Path) -> Store:
    """A folder's store."""
    return open_store(sqlite_uri(folder / "mlflow.db"))


def locations(folder: Path) -> list[str]:
    """Where the experiments and runs of a folder's database have their artifacts."""
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        query = "select artifact_location from experiments union all select artifact_uri from runs"
        return [location for (location,) in database.execute(query)]


def contents(folder: Path) -> dict[Path, bytes]:
    """All files of a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def folder(tmp_path: Path, empty_database: Path, make_cell, journals) -> Path:
    """A working folder with a sweep of one finished cell."""
    folder = tmp_path / "ä b%41"
    folder.mkdir()
    shutil.copy(empty_database, folder)
    with closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        database.execute("update experiments set artifact_location = ?", ((folder / "mlartifacts/0").as_uri(),))
    store, cell = opened(folder), make_cell().at(folder / "runs")
    journals.start(cell)
    journals.finish(cell, miou=50.0)
    (cell.folder / "model.safetensors").touch()
    run = parent(store, "prec_recall", "pocket", "key")
    record_plan(store, run, "recipe pocket", [cell])
    show_table(store, run)
    replay(store, cell_run_spec(run, cell))
    return folder


def check(folder: Path) -> None:
    """Check that a folder's store leads to this folder alone."""
    store = opened(folder)
    sweep = newest_sweep(store, "prec_recall", "pocket")
    (cell,) = sweep.cells
    assert cell.folder.parents[1] == folder / "runs"
    experiment = store.client.get_experiment_by_name("prec_recall").experiment_id
    (run,) = store.client.search_runs([experiment], "tags.`tadp.fingerprint` != ''")
    assert trained_cell(store, run.info.run_id) == (cell, cell.folder / "model.safetensors")
    assert all(location.startswith((folder / "mlartifacts").as_uri()) for location in locations(folder))
    record_plan(store, sweep.run_id, "another recipe", [cell])
    assert read_sweep(store, sweep.run_id).settings == "another recipe"


def test_a_copied_folder_has_its_own_files(folder: Path, tmp_path: Path, capsys) -> None:
    before, copy = contents(folder), shutil.copytree(folder, tmp_path / "copy%20")
    assert SAID not in capsys.readouterr().err
    check(copy)
    assert contents(folder) == before
    assert capsys.readouterr().err.count(SAID) == 1
    check(folder)
    assert SAID not in capsys.readouterr().err


def test_a_moved_folder_has_its_own_files(folder: Path, tmp_path: Path, capsys) -> None:
    there = folder.rename(tmp_path / "there")
    check(there)
    assert not folder.exists() and capsys.readouterr().err.count(SAID) == 1
    check(there.rename(folder))
    assert not there.exists()


def test_a_link_to_a_folder_leads_to_the_same_folder(folder: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "link").symlink_to(folder)
    before = locations(folder)
    opened(tmp_path / "link").experiment_id("other")
    assert set(locations(folder)) == {*before, (folder / "mlartifacts/other").as_uri()}
    assert SAID not in capsys.readouterr().err


def test_artifacts_at_another_place_stay_there(folder: Path, tmp_path: Path) -> None:
    chosen = [(tmp_path / "big/mlartifacts/one").as_uri(), (folder / "mlartifacts2/two").as_uri(), "s3://bucket/three"]
    for number, location in enumerate(chosen):
        opened(folder).client.create_experiment(str(number), artifact_location=location)
    there = folder.rename(tmp_path / "there")
    opened(there)
    assert set(chosen) < set(locations(there))


def test_a_path_without_a_file_in_the_new_folder_stays(folder: Path, tmp_path: Path) -> None:
    """The storage, for instance, may not have been copied."""
    copy = shutil.copytree(folder, tmp_path / "copy", ignore=shutil.ignore_patterns("runs"))
    (cell,) = newest_sweep(opened(copy), "prec_recall", "pocket").cells
    assert cell.folder.parents[1] == folder / "runs"


def test_a_copy_of_the_database_alone_reads_the_files_where_they_are(folder: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "copy").mkdir()
    shutil.copy(folder / "mlflow.db", tmp_path / "copy")
    assert newest_sweep(opened(tmp_path / "copy"), "prec_recall", "pocket").cells
    assert SAID not in capsys.readouterr().err


def test_the_locks_of_nfs_suffice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There, locks are POSIX's, which are granted only to who may read, or write, in turn."""
    monkeypatch.setattr(fcntl, "flock", fcntl.lockf)
    with moved.in_use(folder / "mlflow.db"):
        pass
    assert not moved.is_in_use(folder / "mlflow.db")


def test_a_folder_in_use_under_another_path_is_left_as_it_is(folder: Path, tmp_path: Path, capsys) -> None:
    """As in a container."""
    before, there = locations(folder), folder.rename(tmp_path / "there")
    said = f"a sweep is running here that knows this folder as {folder}"
    with moved.in_use(there / "mlflow.db"), moved.in_use(there / "mlflow.db"):
        opened(there)
        assert locations(there) == before and said in capsys.readouterr().err
    check(there)


def test_paths_that_cannot_be_rewritten_are_told_and_rewritten_later(folder: Path, tmp_path: Path, monkeypatch) -> None:
    def refuse(file: Path, old: Path) -> None:
        raise sqlite3.OperationalError("attempt to write a readonly database")

    there = folder.rename(tmp_path / "there")
    with monkeypatch.context() as patch:
        patch.setattr(moved, "rewrite_database", refuse)
        with pytest.raises(UserError, match="cannot be adapted to the folder in which it is now .*readonly database"):
            opened(there)
    check(there)
