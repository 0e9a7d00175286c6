"""Files are there whole, on the disk, or not at all."""

import os
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import tadp_ray
from tadp_ray.errors import UserError
from tadp_ray.files import acquire_lock, drafted, drafted_folder, is_draft, is_locked, write_text


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was brought to the disk and what was moved into place, in order."""
    done: list[str] = []
    sync, replace = os.fsync, Path.replace

    def fsync(descriptor: int) -> None:
        done.append(f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name.split('.')[0]}")
        sync(descriptor)

    def move(self: Path, target: Path) -> Path:
        done.append(f"move {Path(target).name}")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", move)
    return done


def test_contents_are_on_the_disk_before_the_old_file_goes_and_the_name_after(tmp_path: Path, done: list[str]) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    write_text(folder / "a", "new")
    assert done == ["sync a", "move a", "sync folder"] and (folder / "a").read_text() == "new"


def test_what_a_library_wrote_is_as_open_as_other_files(tmp_path: Path) -> None:
    write_text(tmp_path / "other", "text")
    with drafted(tmp_path / "tensors") as draft:
        draft.touch(0o600)
    assert (tmp_path / "tensors").stat().st_mode == (tmp_path / "other").stat().st_mode
    with drafted(tmp_path / "closed") as draft:
        draft.touch(0o640)
    assert (tmp_path / "closed").stat().st_mode & 0o777 == 0o640, "as the folder's rules have it"


def test_threads_may_write_the_same_file_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as threads:
        for written in [threads.submit(write_text, tmp_path / "a", "new") for _ in range(100)]:
            written.result()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_machines_may_write_the_same_file_of_a_shared_folder_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a cluster start alike, so that their processes have the same numbers."""
    monkeypatch.setattr(threading, "get_native_id", lambda: 17)
    monkeypatch.setattr(os, "getpid", lambda: 17)
    with drafted(tmp_path / "a") as last, drafted(tmp_path / "a") as first:
        assert last != first and is_draft(last)
        for draft, text in ((first, "first"), (last, "last")):
            draft.write_text(text)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "last")]


def test_a_folder_is_filled_at_the_end_and_what_else_it_holds_stays(tmp_path: Path, done: list[str]) -> None:
    folder = tmp_path / "model"
    (folder / "unet").mkdir(parents=True)
    (folder / "unet/a").write_text("old")
    (folder / "journal").write_text("kept")
    (folder / ".tadp-draft-left").mkdir()
    (folder / ".tadp-draft-left/half").write_text("of a killed process")
    (folder / ".tmp_of_the_user").mkdir()
    (folder / ".tmp_of_the_user/photo").write_text("kept")
    with pytest.raises(KeyboardInterrupt), drafted_folder(folder) as draft:
        (draft / "unet").mkdir()
        (draft / "unet/a").write_text("half")
        assert is_draft(draft)
        raise KeyboardInterrupt
    assert not done and (folder / "unet/a").read_text() == "old"
    with drafted_folder(folder) as draft:
        (draft / "unet").mkdir()
        (draft / "unet/a").write_text("new")
        (draft / "index").write_text("new")
    assert done == ["sync index", "move index", "sync model", "sync a", "move a", "sync unet"]
    found = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert found == {"unet/a": "new", "index": "new", "journal": "kept", ".tmp_of_the_user/photo": "kept"}


def test_nothing_is_written_past_a_draft() -> None:
    """What writes a file in place would leave half of it. Journals and unfinished captions grow line by line instead."""
    past = re.compile(
        r"(?<!draft)\.(write_text|write_bytes|savefig|save_pretrained|print_png|print_figure)\(|draft\.replace\((?!path)|(?<!draft)\.open\(\"[wx]|np\.save\(path"
    )
    root = Path(tadp_ray.__file__).parent
    found = [
        f"{path.relative_to(root)}: {line.strip()}"
        for path in root.rglob("*.py")
        for line in path.read_text().split("\n")
        if past.search(line) and "savefig(draft" not in line and "save_pretrained(draft" not in line
    ]
    assert not found


def test_who_looks_at_a_lock_need_not_be_able_to_take_it(tmp_path: Path) -> None:
    """As that of a colleague's sweep; root may write everywhere, so this only sees that nothing is written."""
    path = tmp_path / "lock"
    assert not is_locked(path) and not path.exists()
    held = acquire_lock(path)
    path.chmod(0o444)
    assert is_locked(path)
    held.release()
    before = path.stat().st_mtime_ns
    assert not is_locked(path) and path.stat().st_mtime_ns == before


def test_a_lock_has_one_holder_and_ends_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "work/lock"
    path.parent.mkdir()
    held = acquire_lock(path)
    with pytest.raises(
        UserError, match=f"^{path.parent}: another process is using this folder; wait for it or stop it"
    ):
        acquire_lock(path, patience=0.3)
    thread = threading.Thread(target=held.release)
    thread.start()
    thread.join()
    script = "import sys, time; from pathlib import Path; from tadp_ray.files import acquire_lock\n"
    script += "lock = acquire_lock(Path(sys.argv[1])); print('held', flush=True); time.sleep(600)"
    other = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(UserError):
            acquire_lock(path)
        waiting = threading.Timer(0.3, other.kill)
        waiting.start()
        # The kernel ends it, also where nothing could be tidied up.
        acquire_lock(path, patience=60).release()
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
    assert path.is_file()
    path.parent.joinpath("folder").mkdir()
    with pytest.raises(OSError):
        acquire_lock(path.parent / "folder")
