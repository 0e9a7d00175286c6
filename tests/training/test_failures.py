"""What a cell leaves that a bug, or something for the user to mend, has ended."""

from pathlib import Path

import pytest

from tadp_ray.errors import UserError
from tadp_ray.layout import TRACEBACK, WORKER_LOG
from tadp_ray.training.journal import failure, read_journal
from tadp_ray.training.reporter import Journal


def test_a_bug_leaves_its_whole_traceback(tmp_path: Path) -> None:
    def inner() -> None:
        next(zip([1, 2], [1], strict=True))
        [*zip([1, 2], [1], strict=True)]

    with pytest.raises(ValueError, match="shorter"), Journal(tmp_path, "f", command="c") as journal:
        journal.report(1, {"loss": 0.5})
        inner()
    found = failure(tmp_path)
    assert found.error == "ValueError: zip() argument 2 is shorter than argument 1"
    assert found.traceback == tmp_path / TRACEBACK
    trace = found.traceback.read_text()
    assert trace.startswith("Traceback") and ", in inner\n" in trace and trace.strip().endswith(found.error)
    assert [record.get("command") for record in read_journal(tmp_path)] == ["c", None, None]


def test_what_the_user_can_mend_leaves_its_message_alone(tmp_path: Path) -> None:
    with pytest.raises(KeyError), Journal(tmp_path, "f"):
        raise KeyError("a bug")
    assert (tmp_path / TRACEBACK).is_file()
    with pytest.raises(UserError), Journal(tmp_path, "f"):
        raise UserError("the loss is nan")
    assert failure(tmp_path).error == "the loss is nan"
    assert failure(tmp_path).traceback is None and not (tmp_path / TRACEBACK).exists()


def test_a_finished_cell_keeps_nothing_of_its_failures(tmp_path: Path) -> None:
    with Journal(tmp_path, "f") as journal:
        journal.fail("a worker died", "all that Ray says")
        (tmp_path / WORKER_LOG).write_text("what it said")
    assert failure(tmp_path).traceback.read_text() == "all that Ray says"
    with Journal(tmp_path, "f") as journal:
        journal.finish(1, {"miou": 1.0})
    assert failure(tmp_path) is None and not (tmp_path / TRACEBACK).exists() and not (tmp_path / WORKER_LOG).exists()
