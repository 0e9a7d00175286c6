"""A journal is whole lines, whatever its disk and its process go through."""

import resource
import signal

import pytest

from tadp_ray.files import acquire_lock
from tadp_ray.training.journal import read_journal
from tadp_ray.training.reporter import Journal


def test_a_full_disk_tears_no_record_that_comes_after_and_frees_the_lock(tmp_path) -> None:
    """A limit on the size of files does as a full disk does: some bytes are taken, then none."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with pytest.raises(OSError), Journal(tmp_path, "f") as journal:
        journal.report(1, {"loss": 1.0})
        size = (tmp_path / "journal.jsonl").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, limits[1]))
        try:
            for _ in range(2):
                with pytest.raises(OSError):
                    journal.report(2, {"loss": 0.5})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        journal.report(3, {"loss": 0.25})
        raise OSError("no room")
    with pytest.raises(OSError):
        resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "journal.jsonl").stat().st_size, limits[1]))
        try:
            Journal(tmp_path, "f")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, before)
    acquire_lock(tmp_path / "lock").release()
    records = [(record["type"], record.get("step")) for record in read_journal(tmp_path)]
    assert records == [("started", None), ("metrics", 1), ("metrics", 3), ("failed", None)]


def test_drafts_of_a_killed_process_go_and_what_is_the_users_stays(tmp_path) -> None:
    for name in (".tadp-draft-left", ".tmp", ".tmphotos", "album.part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
    for name in ("journal.jsonl.17.part", ".tmpAbCdEf", "film.part"):
        (tmp_path / name).write_text("x")
    with Journal(tmp_path, "f"):
        found = sorted(path.name for path in tmp_path.iterdir())
    assert found == [".tmp", ".tmphotos", "album.part", "film.part", "journal.jsonl", "lock"]
