"""A cell's folder and an object store, a real S3 server's, are kept equal; what is half there loses nothing."""

import errno
import itertools
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO
from unittest.mock import Mock

import pytest
import torch
from fsspec.implementations.local import LocalFileSystem as LocalFiles
from pyarrow import ArrowNotImplementedError
from pyarrow.fs import FileSystem, FSSpecHandler, LocalFileSystem, PyFileSystem

from tadp_ray.config.cell import Cell
from tadp_ray.config.search import Search
from tadp_ray.errors import UserError
from tadp_ray.files import FileState, file_state
from tadp_ray.layout import BEST, CHECKPOINT, JOURNAL, MODEL, SWEEP_MARK, TRACEBACK, WORKER_LOG
from tadp_ray.sweep import address as address_module
from tadp_ray.sweep import alive
from tadp_ray.sweep import remote as remote_module
from tadp_ray.sweep.address import Remote, retry
from tadp_ray.sweep.engine import archive
from tadp_ray.sweep.failing import note_failure
from tadp_ray.sweep.remote import SyncedFolder, mirror, node_folder, on_node, pull
from tadp_ray.sweep.stopped import note_stopped, stopped_by
from tadp_ray.training.checkpoint import Damaged, read_tensors, write
from tadp_ray.training.journal import Failure, failure, final_metrics, read_journal
from tadp_ray.training.reporter import Journal, checkpoints


@pytest.fixture
def cell(make_cell, object_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cell:
    """A cell in a folder of the object store's; this machine works in the test's own."""
    monkeypatch.chdir(tmp_path)
    made = make_cell()
    address = object_store.replace("bucket?", f"bucket/{tmp_path.name}?")
    compute = made.recipe.compute.model_copy(update={"storage": address})
    return made.model_copy(update={"recipe": made.recipe.model_copy(update={"compute": compute})})


@pytest.fixture
def node(cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], SyncedFolder]:
    """Makes this process one of another node; returns the node's copy of the cell."""

    def enter(name: str) -> SyncedFolder:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        address = cell.recipe.compute.storage_address
        return SyncedFolder(Remote(address), cell.at(node_folder(address)).folder)

    return enter


def began(cell: Cell, node: Callable[[str], SyncedFolder]) -> tuple[SyncedFolder, Path]:
    """The cell on a node that has fetched it, and its folder there."""
    copy = node("node")
    copy.fetch()
    return copy, cell.at(node_folder(cell.recipe.compute.storage_address)).folder


def train(folder: Path, *steps: int) -> None:
    """Checkpoints of these steps, and their lines in the journal."""
    with Journal(folder, "f") as journal:
        for step in steps:
            write(folder / CHECKPOINT, {"weight": torch.full((3,), float(step))}, {"step": step})
            journal.report(step, {"loss": 1 / step}, folder / CHECKPOINT)


def steps(folder: Path) -> list[int]:
    """Of the whole checkpoints in a folder, newest first."""
    found = []
    for path in checkpoints(folder):
        try:
            found.append(read_tensors(path)[1]["step"])
        except Damaged:
            continue
    return found


def test_another_node_goes_on_from_what_the_lost_one_had_sent(cell: Cell, node, tmp_path: Path) -> None:
    lost = node("lost")
    lost.fetch()
    here = cell.at(node_folder(cell.recipe.compute.storage_address)).folder
    train(here, 4, 8)
    lost.push()
    (here / ".tmpAbCdEf").write_bytes(b"a draft of safetensors'")
    lost.push()
    assert Remote(cell.recipe.compute.storage_address).names(f"cells/{here.name}") == [
        "checkpoint-000001",
        "journal.jsonl",
    ]
    train(here, 12)  # never sent
    assert not list(here.glob(".tmp*"))  # the next process that takes the cell up deletes it

    node("other")
    with on_node(cell) as other:
        assert steps(other.folder) == [8] and "lost" not in str(other.folder)
        told = [record["step"] for record in read_journal(other.folder) if "step" in record]
        assert told == [4, 8]
        train(other.folder, 12)
        (other.folder / "model.safetensors").write_bytes(b"weights")
        with Journal(other.folder, "f") as journal:
            journal.finish(16, {"miou": 50.0})
    assert [path.name for path in other.folder.iterdir()] == ["lock"]
    pull(cell.recipe.compute.storage_address, [cell])
    assert final_metrics(cell.folder, "f") == {"miou": 50.0}
    assert sorted(path.name for path in cell.folder.iterdir()) == ["journal.jsonl", "model.safetensors"]
    assert cell.folder.is_relative_to(tmp_path / "runs")
    assert Remote(cell.recipe.compute.storage_address).names(f"cells/{cell.folder.name}") == [
        "journal.jsonl",
        "model.safetensors",
    ]


def test_a_checkpoint_that_was_half_sent_hides_none(cell: Cell, node) -> None:
    address = cell.recipe.compute.storage_address
    first = node("first")
    first.fetch()
    train(cell.at(node_folder(address)).folder, 4)
    first.push()
    remote, place = Remote(address), f"cells/{cell.folder.name}"
    assert remote.names(place) == ["checkpoint-000001", "journal.jsonl"]
    with remote.files.open_output_stream(f"{remote.path}/{place}/checkpoint-000002") as stream:
        stream.write(b"half of it")

    second = node("second")
    second.fetch()
    here = cell.at(node_folder(address)).folder
    assert len(checkpoints(here)) == 2 and steps(here) == [4]
    checkpoints(here)[0].unlink()  # as a training does that goes on from the one before
    second.push()
    assert remote.names(place)[0] == "checkpoint-000001"
    train(here, 8)
    second.push()
    assert remote.names(place) == ["checkpoint-000003", "journal.jsonl"]


def test_a_checkpoint_that_is_written_while_files_are_sent_stays(
    cell: Cell, node, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = node("first")
    first.fetch()
    here = cell.at(node_folder(cell.recipe.compute.storage_address)).folder

    def too_early(folder: Path) -> list[Path]:
        found = checkpoints(folder)
        train(here, 4)
        return found

    monkeypatch.setattr(remote_module, "checkpoints", too_early)
    first.push()
    there = Remote(cell.recipe.compute.storage_address).names(f"cells/{here.name}")
    assert there == ["checkpoint-000001", "journal.jsonl"]


def test_a_journal_is_sent_after_the_files_it_tells_of_and_before_its_checkpoint(
    cell: Cell, node, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, write_file = list[str](), Remote.write

    def noted(self: Remote, source: BinaryIO, name: str) -> None:
        written.append(Path(name).name)
        write_file(self, source, name)

    monkeypatch.setattr(Remote, "write", noted)
    copy, here = began(cell, node)
    train(here, 4)
    for name in (BEST, WORKER_LOG):
        (here / name).write_text("of step 4")
    copy.push()
    assert written == [f"{BEST}.part", f"{WORKER_LOG}.part", f"{JOURNAL}.part", "checkpoint-000001"]


def test_a_checkpoint_is_not_sent_before_its_line_in_the_journal(
    cell: Cell, node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written between two looks at the files, neither of which had changed."""
    copy, here = began(cell, node)
    train(here, 4)
    copy.push()
    looked = list[str]()

    def state_then_step(path: Path) -> FileState:
        found = file_state(path)
        looked.append(path.name)
        if len(looked) == 1:
            train(here, 8)
        return found

    monkeypatch.setattr(remote_module, "file_state", state_then_step)
    copy.push()
    place, remote = f"cells/{here.name}", Remote(cell.recipe.compute.storage_address)
    assert {*looked} == {CHECKPOINT, JOURNAL} and remote.names(place) == ["checkpoint-000001", JOURNAL]
    assert b'"step": 8' in remote.read(f"{place}/{JOURNAL}")
    copy.push()
    assert remote.names(place) == ["checkpoint-000002", JOURNAL]


def test_a_cell_that_finishes_while_files_are_sent_is_not_finished_at_the_address(
    cell: Cell, node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before its weights are there."""
    copy, here = began(cell, node)
    train(here, 4)
    files = SyncedFolder._files

    def too_early(self: SyncedFolder) -> list[Path]:
        found = files(self)
        (here / MODEL).write_bytes(b"weights")
        with Journal(here, "f") as journal:
            journal.finish(16, {"miou": 50.0})
        return found

    with monkeypatch.context() as patch:
        patch.setattr(SyncedFolder, "_files", too_early)
        copy.push()
    place, remote = f"cells/{here.name}", Remote(cell.recipe.compute.storage_address)
    assert MODEL not in remote.names(place) and b"finished" not in remote.read(f"{place}/{JOURNAL}")
    copy.push()
    assert MODEL in remote.names(place) and b"finished" in remote.read(f"{place}/{JOURNAL}")


def test_the_command_follows_and_a_failure_is_told(cell: Cell, node, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that does not answer for a while delays what is told, and no training."""
    monkeypatch.setattr(remote_module, "PERIOD", 0.05)
    monkeypatch.setattr(address_module, "RETRY_SECONDS", 0.05)
    node("node")
    # A file system of fsspec's has exceptions of its own.
    replace, failures = Remote.replace, iter([OSError("away"), EOFError("away"), EOFError("away")])

    def sometimes(self: Remote, *arguments: object) -> None:
        if error := next(failures, None):
            raise error
        replace(self, *arguments)

    monkeypatch.setattr(Remote, "replace", sometimes)
    with pytest.raises(UserError, match="the loss is nan"):
        with mirror(cell.recipe.compute.storage_address, [cell]), on_node(cell) as here:
            with Journal(here.folder, "f"):
                raise UserError("the loss is nan")
    assert next(failures, None) is None
    assert [record["type"] for record in read_journal(cell.folder)] == ["started", "failed"]


@pytest.mark.slow
def test_cells_that_wait_or_are_finished_cost_no_requests(
    cell: Cell, node, monkeypatch: pytest.MonkeyPatch, wait_for
) -> None:
    """But for lists of all folders."""
    waiting = [cell.with_seed(seed) for seed in range(1, 4)]
    asked, sizes = list[str](), Remote.sizes
    monkeypatch.setattr(Remote, "sizes", lambda self, names: asked.extend(names) or sizes(self, names))
    monkeypatch.setattr(remote_module, "PERIOD", 0.05)
    monkeypatch.setattr(alive, "PERIOD", 0.05)
    with mirror(cell.recipe.compute.storage_address, [cell, *waiting]), alive.kill_hung_processes([cell, *waiting]):
        node("node")
        with on_node(cell) as here:
            with Journal(here.folder, cell.fingerprint) as record:
                record.finish(1, {"miou": 1.0})
        wait_for(lambda: final_metrics(cell.folder, cell.fingerprint))
        assert {*asked} <= {f"cells/{cell.folder.name}/{name}" for name in (JOURNAL, alive.ALIVE)}
        time.sleep(0.5)
        asked.clear()
        time.sleep(0.5)
        assert not asked


def test_an_address_that_is_none_is_told() -> None:
    with pytest.raises(
        UserError, match="compute.storage nowhere://x: Unrecognized .*name a folder, an address of pyarrow's"
    ):
        Remote("nowhere://x")


@pytest.mark.slow
def test_heartbeats_are_sent_beside_a_long_upload_and_end_with_the_training(
    cell: Cell, node, monkeypatch: pytest.MonkeyPatch, wait_for
) -> None:
    remote = Remote(cell.recipe.compute.storage_address)
    ended: list[bytes] = []
    sending, seconds = threading.Event(), 1.0
    write_file = Remote.write

    def slowly(self: Remote, source: BinaryIO, name: str) -> None:
        if "checkpoint" in name:
            sending.set()
            time.sleep(2 * seconds)
        write_file(self, source, name)

    monkeypatch.setattr(Remote, "write", slowly)
    monkeypatch.setattr(alive, "kill_process", ended.append)
    monkeypatch.setattr(alive, "TIMEOUT", seconds)
    monkeypatch.setattr(alive, "PERIOD", seconds / 20)
    monkeypatch.setattr(alive.ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "node"))
    node("one")
    assert alive.heartbeats([cell], remote) == [None]
    with alive.kill_hung_processes([cell]):
        with alive.heartbeat(cell), on_node(cell) as here:
            train(here.folder, 4)
        assert sending.is_set() and not ended
        assert alive.heartbeats([cell], remote) == [None]

        remote.replace(BytesIO(b'{"pid": 1}'), f"cells/{cell.folder.name}/{alive.ALIVE}")
        wait_for(lambda: ended)
    assert ended[0] == b'{"pid": 1}'


def test_what_s3_cannot_rename_is_written_in_place(
    object_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address_module, "LARGEST_COPY", 3)
    remote = Remote(object_store.replace("bucket?", f"bucket/{tmp_path.name}?"))
    remote.make_folder("")
    (tmp_path / "model").write_bytes(b"large")
    with (tmp_path / "model").open("rb") as file, monkeypatch.context() as patch:
        # Without `move`.
        limited = {name: getattr(remote.files, name) for name in ("type_name", "open_output_stream")}
        patch.setattr(remote, "files", SimpleNamespace(**limited))
        remote.replace(file, "model")
        with pytest.raises(AttributeError, match="move"):
            remote.replace(BytesIO(b"abc"), "small")
    assert remote.read("model") == b"large" and remote.names("") == ["model"]
    # Elsewhere a file is seen while it is written, so that it has a draft however large it is.
    local = Remote(f"file://{tmp_path}")
    with monkeypatch.context() as patch:
        patch.setattr(local, "write", lambda source, name: written.append(name))
        written: list[str] = []
        with pytest.raises(FileNotFoundError):
            local.replace(BytesIO(b"large"), "model")
    assert written == ["model.part"]


def test_what_a_training_deletes_is_deleted_at_the_address_and_in_the_copy(cell: Cell, node) -> None:
    """A traceback of a crash before the cell finished, and that a search stopped it; the best weights before the last ones."""
    address, there = cell.recipe.compute.storage_address, Remote(cell.recipe.compute.storage_address)
    gone = [TRACEBACK, WORKER_LOG, BEST]
    with suppress(RuntimeError), on_node(cell) as crashed, Journal(crashed.folder, "f"):
        for name in gone:
            (crashed.folder / name).write_text("of the crash")
        raise RuntimeError
    pull(address, [cell])
    assert {*gone} - {BEST} <= {path.name for path in cell.folder.iterdir()}
    search = Search(space={"schedule.learning_rate": {"low": 1e-5, "high": 1e-2}}, grace_period=2)
    note_stopped(cell, search)
    shutil.rmtree(cell.folder)
    pull(address, [cell])
    assert stopped_by(cell, search), "from another machine, too"
    (cell.folder / BEST).write_text("of an earlier look")
    node("other")
    with on_node(cell) as here, Journal(here.folder, "f") as journal:
        (here.folder / BEST).unlink()
        journal.finish(16, {"miou": 50.0})
    assert there.names(f"cells/{cell.folder.name}") == ["journal.jsonl"]
    pull(address, [cell])
    assert [path.name for path in cell.folder.iterdir()] == ["journal.jsonl"]


def test_a_failure_is_recorded_without_the_checkpoints(cell: Cell, node, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are gigabytes, and the command's machine may have no room for them."""
    lost, folder = began(cell, node)
    write(folder / CHECKPOINT, {"weight": torch.zeros(3)}, {"step": 4})
    with Journal(folder, cell.fingerprint) as journal:
        journal.report(4, {"loss": 0.25}, folder / CHECKPOINT)
    (folder / BEST).write_text("weights")
    lost.push_final()
    node("command")
    fetched, fetch = [], Remote.fetch
    monkeypatch.setattr(
        Remote, "fetch", lambda remote, name, target: [fetched.append(Path(name).name), fetch(remote, name, target)]
    )
    note_failure(cell, "its process died", "Traceback", "mine")
    assert "journal.jsonl" in fetched and not {BEST, "checkpoint-000001"} & {*fetched}
    there = Remote(cell.recipe.compute.storage_address).names(f"cells/{cell.folder.name}")
    assert {*there} == {BEST, "checkpoint-000001", "journal.jsonl", TRACEBACK}
    assert failure(cell.folder) == Failure("its process died", cell.folder / TRACEBACK)
    node("other")
    with on_node(cell) as here:
        assert steps(here.folder) == [4] and (here.folder / BEST).read_text() == "weights"


def test_a_training_of_another_storage_is_kept_beside_the_addresss(cell: Cell, node, caplog) -> None:
    """The address has none yet, or one with other records, shorter or longer ones."""
    address, folders = cell.recipe.compute.storage_address, cell.folder.parent
    train(cell.folder, *range(1, 9))
    (cell.folder / BEST).write_text("of here")
    pull(address, [cell])
    (first,) = folders.iterdir()
    assert first != cell.folder and steps(first) == [8, 7] and (first / BEST).read_text() == "of here"
    assert f"{cell.folder} is not the training of {address} there; it is kept as {first}" in caplog.text
    node("node")
    with on_node(cell) as here:
        train(here.folder, 4)
    for local in (range(1, 9), [5]):
        kept = {*folders.iterdir()}
        train(cell.folder, *local)
        written = (cell.folder / JOURNAL).read_bytes()
        pull(address, [cell])
        assert [record["step"] for record in read_journal(cell.folder) if "step" in record] == [4]
        (aside,) = {*folders.iterdir()} - kept - {cell.folder}
        assert (aside / JOURNAL).read_bytes() == written
        shutil.rmtree(cell.folder)
    # A copy of an older state is brought up to date.
    pull(address, [cell])
    kept = {*folders.iterdir()}
    with on_node(cell) as here:
        train(here.folder, 6)
    pull(address, [cell])
    assert [record["step"] for record in read_journal(cell.folder) if "step" in record] == [4, 6]
    assert {*folders.iterdir()} == kept


def test_a_result_of_another_storage_counts(cell: Cell, node) -> None:
    """At the address is a training that was interrupted."""
    node("node")
    with on_node(cell) as here, Journal(here.folder, cell.fingerprint):
        pass
    with Journal(cell.folder, cell.fingerprint) as journal:
        journal.finish(16, {"miou": 50.0})
    (cell.folder / BEST).write_text("of here")
    pull(cell.recipe.compute.storage_address, [cell])
    assert final_metrics(cell.folder, cell.fingerprint) == {"miou": 50.0}
    assert (cell.folder / BEST).read_text() == "of here" and len([*cell.folder.parent.iterdir()]) == 1


def test_a_slow_upload_that_fails_is_tried_again(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address_module, "PATIENCE", 0.05)
    monkeypatch.setattr(address_module, "RETRY_SECONDS", 0.01)
    tries = []

    def upload() -> None:
        tries.append(time.sleep(0.1))
        if len(tries) == 1:
            raise OSError("away")

    retry(cell.recipe.compute.storage_address, "send it", upload)
    assert len(tries) == 2


def test_a_full_disk_is_no_fault_of_the_address(
    cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    remote = Remote(cell.recipe.compute.storage_address)
    remote.make_folder("cells")
    remote.write(BytesIO(b"weights"), "cells/file")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(address_module.shutil, "copyfileobj", full)
    with pytest.raises(UserError, match="file: No space left on device; make room"):
        retry(remote.address, "fetch it", lambda: remote.fetch("cells/file", tmp_path / "file"))
    assert not caplog.records  # nobody waits for the address


class Away:
    """A file system that cannot be reached by its next calls."""

    def __init__(self, files: FileSystem, failures: Iterator[bool]) -> None:
        self._files, self._failures = files, failures

    def __getattr__(self, name: str) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            if next(self._failures, False):
                raise OSError("Could not connect")
            return getattr(self._files, name)(*arguments, **named)

        return call


def test_a_cell_that_starts_while_the_address_is_away_waits_for_it(
    cell: Cell, node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where no address has its region, S3's file system is not even opened then."""
    monkeypatch.setattr(address_module, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(alive.ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "node"))
    node("one")
    # One is opened by the heartbeat, which makes a folder and writes, one by the training, which makes a folder and lists it.
    opening, calls = (iter([True, True, False, True]), iter([[True, True], [True, False, True]]))

    def open_address(address: str) -> tuple[Away, str]:
        if next(opening, False):
            raise OSError("Could not connect")
        files, path = FileSystem.from_uri(address)
        return Away(files, iter(next(calls))), path

    monkeypatch.setattr(address_module, "FileSystem", SimpleNamespace(from_uri=open_address))
    with alive.heartbeat(cell), on_node(cell) as here:
        assert here.folder.is_dir() and next(calls, None) is None
    waits = [record.getMessage() for record in caplog.records]
    address, path = cell.recipe.compute.storage_address, f"cells/{cell.folder.name}"
    assert [wait.partition(" (")[0] for wait in waits] == [
        f"waiting for compute.storage {address}, to {purpose}"
        for purpose in ("open it", f"make the folder of {cell.name}", "open it", f"fetch {path}")
    ]
    assert waits[-1].endswith(" (Could not connect); tried again for 5 minutes")


def test_an_address_that_stays_away_fails_the_cell(cell: Cell, node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address_module, "PATIENCE", 0.05)
    monkeypatch.setattr(address_module, "RETRY_SECONDS", 0.01)
    copy = node("one")
    copy._remote.files = Away(copy._remote.files, itertools.repeat(True))
    with pytest.raises(UserError, match=r"cannot be read or written \(Could not connect\); check its name"):
        copy.fetch()


def test_nodes_that_share_a_folder_lose_nothing_of_a_cell(cell: Cell, node) -> None:
    """As those do whose users' homes are on one disk, in which their folders lie."""
    node("home")
    with on_node(cell) as here, ExitStack() as other, ExitStack() as main:
        other.enter_context(on_node(cell, fetches=True, is_main_process=False))
        journal = main.enter_context(Journal(here.folder, cell.fingerprint))
        (here.folder / BEST).write_text("best")
        other.close()
        journal.finish(16, {"miou": 50.0})
    pull(cell.recipe.compute.storage_address, [cell])
    assert final_metrics(cell.folder, cell.fingerprint) == {"miou": 50.0} and (cell.folder / BEST).is_file()


def test_an_emptied_folder_deletes_nothing_at_the_address(cell: Cell, node) -> None:
    """Somebody may have emptied the user's cache."""
    copy, here = began(cell, node)
    train(here, 4)
    (here / BEST).write_text("best")
    copy.push()
    there = lambda: Remote(cell.recipe.compute.storage_address).names(f"cells/{cell.folder.name}")
    assert there() == [BEST, "checkpoint-000001", JOURNAL]
    for path in here.iterdir():
        path.unlink()
    copy.push()
    assert there() == [BEST, "checkpoint-000001", JOURNAL]


def test_a_cell_that_is_set_aside_leaves_nothing_at_the_address(cell: Cell, node, store) -> None:
    """Else the next node would go on from it."""
    node("node")
    with on_node(cell) as here, Journal(here.folder, cell.fingerprint) as journal:
        (here.folder / MODEL).write_bytes(b"weights")
        journal.finish(16, {"miou": 50.0})
    address, place = cell.recipe.compute.storage_address, f"cells/{cell.folder.name}"
    pull(address, [cell])
    assert Remote(address).names(place) == [JOURNAL, MODEL]
    archive(store, cell)
    assert Remote(address).names(place) == [] and not cell.folder.exists()
    (aside,) = cell.folder.parent.iterdir()
    assert sorted(path.name for path in aside.iterdir()) == [JOURNAL, MODEL]
    node("other").fetch()
    assert [*read_journal(cell.at(node_folder(address)).folder)] == []


def test_an_address_that_cannot_rename_has_copies(tmp_path: Path) -> None:
    """As an account of Azure without a hierarchical namespace."""
    files, folder = LocalFileSystem(), tmp_path / "there"
    remote = Remote(folder.as_uri())
    remote.files = Mock(wraps=files, type_name="abfs")
    remote.files.move.side_effect = ArrowNotImplementedError("Move")
    remote.write_marker()
    remote.replace(BytesIO(b"old"), "journal")
    remote.replace(BytesIO(b"new"), "journal")
    assert remote.names("") == ["journal", SWEEP_MARK] and remote.read("journal") == b"new" and remote.has_marker()


class Remembering(LocalFiles):
    """Answers from what it has seen until it is told to forget, as fsspec's file systems over FTP and S3 do."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[str, dict] = {}

    def info(self, path: str, **options: object) -> dict:
        return self._seen.setdefault(path, super().info(path, **options))

    def invalidate_cache(self, path: str | None = None) -> None:
        self._seen.clear()


def test_what_a_node_writes_is_seen_by_a_file_system_that_remembers(tmp_path: Path) -> None:
    remote = Remote(tmp_path.as_uri())
    remote.files = PyFileSystem(FSSpecHandler(Remembering()))
    for number in range(1, 3):
        (tmp_path / "journal").write_bytes(b"x" * number)
        assert remote.sizes(["journal"]) == [number] and remote.names("") == ["journal"]
