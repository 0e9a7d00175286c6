"""Why cells failed is recorded: what their process reported, or what Ray tells of one that died."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.exceptions import OutOfMemoryError

from tadp_ray.config.cell import Cell
from tadp_ray.errors import UserError
from tadp_ray.layout import TRACEBACK
from tadp_ray.sweep import failing
from tadp_ray.sweep.failing import Crashes
from tadp_ray.training.journal import Failure, failure


@pytest.mark.parametrize("recorded", [False, True])
def test_a_user_s_error_of_another_worker_is_no_bug_of_the_one_that_writes(make_cell, journals, recorded: bool) -> None:
    """That one has perhaps recorded that it lost the other."""
    cell = make_cell()
    journals.write(cell, type="started", fingerprint=cell.fingerprint, command="mine")
    if recorded:
        journals.write(cell, type="failed", error="Connection closed by peer", traceback=TRACEBACK)
        (cell.folder / TRACEBACK).write_text("RuntimeError: Connection closed by peer")
    failing.note_failure(cell, "disk full", None, "mine")
    assert failure(cell.folder) == Failure("disk full", None) and not (cell.folder / TRACEBACK).exists()


@pytest.mark.parametrize(
    ("error", "trace", "found"),
    [
        ("OutOfMemoryError: killed", "Traceback\nOutOfMemoryError: killed", ("OutOfMemoryError: killed", True)),
        # A user's error from before the journal was opened.
        ("another process is using this folder", "", ("another process is using this folder", False)),
    ],
)
def test_what_an_earlier_command_recorded_hides_no_new_reason(
    make_cell, journals, error: str, trace: str, found: tuple[str, bool]
) -> None:
    cell = make_cell()
    journals.write(cell, type="started", fingerprint=cell.fingerprint, command="earlier")
    journals.write(cell, type="failed", error="disk full")
    failing.note_failure(cell, error, trace, "mine")
    told = failure(cell.folder)
    assert told is not None and (told.error, told.traceback is not None) == found
    assert (cell.folder / TRACEBACK).exists() == found[1]
    journals.write(cell, type="started", fingerprint=cell.fingerprint, command="mine")
    journals.write(cell, type="failed", error="disk full")
    failing.note_failure(cell, error, trace, "mine")
    assert failure(cell.folder) == Failure("disk full", None)


def test_a_failure_that_cannot_be_recorded_leaves_the_others_told(
    make_cell, journals, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cells, noted = [make_cell(seed=seed) for seed in range(3)], []

    def note(cell: Cell, *_: object) -> None:
        if cell is cells[0]:
            raise UserError("another process is using this folder")
        noted.append(cell)

    monkeypatch.setattr(failing, "note_failure", note)
    failing.note_failures([(cell, "died", "", "mine") for cell in cells])
    assert noted == cells[1:]
    assert "failed: died; this could not be recorded: another process is using this folder" in caplog.text


RAY_TELLS = {
    "of an error before any cell": (
        """The actor died unexpectedly before finishing this task.
\tclass_name: ImplicitFunc
KeyError: 'lookup'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "function_manager.py", line 696, in _load_actor_class_from_gcs
    actor_class = pickle.loads(pickled_class)
ImportError: a package is broken

An unexpected internal error occurred while the worker was executing a task.
""",
        "ImportError: a package is broken",
    ),
    "of a killed process": (
        """The actor died unexpectedly before finishing this task.
\tclass_name: ImplicitFunc
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR
""",
        "its process died, often because memory ran out",
    ),
    "nothing": ("", "its process died, often because memory ran out"),
}


@pytest.mark.parametrize("case", RAY_TELLS)
def test_a_process_that_died_for_good_is_recorded_at_once(case: str, make_cell, tmp_path: Path) -> None:
    """And not only when all other cells have ended. Its earlier failures, after which it was restarted, are not told."""
    told, error = RAY_TELLS[case]
    cell, crashes, file = make_cell(), Crashes(), tmp_path / "error.txt"
    if told:
        file.write_text(f"Failure # 1 (occurred at 9)\nValueError: old\nFailure # 2 (occurred at 10)\n{told}")
    trial = SimpleNamespace(config={"cells": [cell], "command": "mine"}, error_file=str(file))
    crashes.on_trial_error(1, [], trial)
    recorded = failure(cell.folder)
    assert recorded is not None and recorded.error == error and crashes.recorded == {cell.fingerprint}
    assert not told or (cell.folder / TRACEBACK).read_text() == told


def test_a_cell_with_which_tune_could_not_go_on_has_failed(make_cell, journals) -> None:
    lost, recorded, unfinished, done = (make_cell(seed=seed) for seed in range(4))
    journals.start(done)
    journals.finish(done, miou=41.5)

    def result(cell: Cell, error: object = None, **metrics: object) -> SimpleNamespace:
        return SimpleNamespace(config={"cells": [cell], "command": "mine"}, metrics=metrics, error=error)

    aborted = "Trial aborted\nAbortError: no reset"
    results = [
        result(lost, error=RuntimeError(aborted)),
        result(recorded, error=RuntimeError("died")),
        result(done, error=RuntimeError("died afterwards")),
        result(unfinished, errors={unfinished.fingerprint: "no disk"}),
        SimpleNamespace(config=None, metrics=None, error=RuntimeError("never started")),
    ]
    assert failing.reported_failures(results, {recorded.fingerprint}) == [
        (lost, "AbortError: no reset", aborted, "mine"),
        (unfinished, "no disk", "", "mine"),
    ]


def test_a_kill_by_rays_memory_monitor_is_told() -> None:
    """Ray Tune ends with a RuntimeError then."""
    with pytest.raises(
        UserError, match="memory was nearly full; run this again, which resumes.* of it: Task was killed"
    ):
        with failing.out_of_memory_told():
            raise RuntimeError("Caught unexpected exception") from OutOfMemoryError("Task was killed\nby the monitor")
    with pytest.raises(RuntimeError, match="a bug"), failing.out_of_memory_told():
        raise RuntimeError("a bug")
