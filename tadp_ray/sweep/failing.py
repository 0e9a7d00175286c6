"""Cells that failed: as their process reported it, or as Ray told of a process that died. Journals record why."""

import logging
import re
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ray import tune
from ray.exceptions import OutOfMemoryError
from ray.tune.experiment import Trial

from tadp_ray.config.cell import Cell
from tadp_ray.errors import UserError
from tadp_ray.files import write_text
from tadp_ray.layout import JOURNAL, TRACEBACK, WORKER_LOG
from tadp_ray.sweep.logs import worker_log
from tadp_ray.sweep.remote import on_node, pull
from tadp_ray.training.journal import failure, final_metrics, read_journal
from tadp_ray.training.reporter import Journal

log = logging.getLogger(__name__)

ERROR_LINE = re.compile(r"[A-Za-z_][\w.]*(: .+)?")
"""The line of a traceback that names its error."""
FailedCell = tuple[Cell, str, str | None, str]
"""(cell, error, traceback, id of the command)."""


def reported_failures(results: Iterable[tune.Result], recorded: Container[str]) -> list[FailedCell]:
    """Return the cells whose failure their process has reported, or with which Ray Tune could not go on.

    Those of processes that died are `recorded` by `Crashes`. Traceback None: a user's error of one of several workers; empty: as
    the cell's journal says.
    """
    failed = []
    # Without settings are those of processes that never started, which are recorded.
    for result in (result for result in results if result.config):
        reported, told = result.metrics or {}, str(result.error or "")
        for cell in result.config["cells"]:
            error = error_in(told) if told else reported.get("errors", {}).get(cell.fingerprint)
            if error and cell.fingerprint not in recorded and final_metrics(cell.folder, cell.fingerprint) is None:
                failed.append((cell, error, told or reported.get("trace", ""), result.config["command"]))
    return failed


def note_failures(failed: Sequence[FailedCell]) -> None:
    """Record failures, each of which is told even if it cannot be recorded."""
    for cell, error, trace, command in failed:
        try:
            note_failure(cell, error, trace, command)
        except (UserError, OSError) as reason:
            log.error("%s failed: %s; this could not be recorded: %s", cell.name, error, reason)


def note_failure(cell: Cell, error: str, trace: str | None, command: str) -> None:
    """Record the failure of a cell that a bug or a crash has ended, and log where its traceback is.

    A user's error is in the journal already, unless it is of another worker than the one that writes: what that one has recorded,
    if anything, is that it lost the other. A process that was killed or ran out of memory wrote nothing, so Ray's report replaces
    the traceback. What an earlier command has recorded does not count.
    """
    began = any(record.get("command") == command for record in read_journal(cell.folder))
    recorded = failure(cell.folder) if began else None
    if recorded and recorded.traceback is None:
        return
    output = worker_log(cell.folder)
    with on_node(cell, only=(TRACEBACK, WORKER_LOG, JOURNAL)) as here:
        if output:
            write_text(here.folder / WORKER_LOG, output)
        if trace is not None and recorded and (here.folder / TRACEBACK).is_file():
            error, trace = recorded.error, (here.folder / TRACEBACK).read_text(encoding="utf-8")
        # An error from before the journal was opened has no traceback.
        trace = trace or None
        with Journal(here.folder, cell.fingerprint) as journal:
            journal.fail(error, trace)
    pull(cell.recipe.compute.storage_address, [cell])
    where = "" if trace is None else f"; the whole traceback: {cell.folder / TRACEBACK}"
    log.error("%s failed: %s%s", cell.name, error, where)


@contextmanager
def out_of_memory_told() -> Iterator[None]:
    """Run Ray Tune in the block, which ends with a bare RuntimeError when Ray's memory monitor has killed a training process.

    Raises:
        UserError: in its place.
    """
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error.__cause__, OutOfMemoryError):
            raise
        raise UserError(
            "Ray killed a training process, since its node's memory was nearly full; run this again, which resumes, with fewer "
            "cells at once (more compute.cpus for each) or on nodes with more memory. What Ray says of it: "
            f"{str(error.__cause__).strip().splitlines()[0]}"
        ) from None


class Crashes(tune.Callback):
    """Logs in one line that a process died and its cells are resumed, and records at once that it died for good.

    Ray Tune would print its own traceback, and tell of failures when all cells have ended.
    """

    def __init__(self) -> None:
        self.recorded: set[str] = set()
        """The fingerprints of cells whose process died for good."""

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: object) -> None:
        """Called when Ray Tune does not restart a trial."""
        error, trace = crash_of(trial)
        lost = [cell for cell in trial.config["cells"] if final_metrics(cell.folder, cell.fingerprint) is None]
        note_failures([(cell, error, trace, trial.config["command"]) for cell in lost])
        self.recorded |= {cell.fingerprint for cell in lost}

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: object) -> None:
        """Called when Ray Tune restarts a trial."""
        cells = trial.config["cells"]
        recorded = failure(cells[0].folder)
        reason = f"a training failed ({recorded.error})" if recorded else "a training process died"
        log.warning("%s; resuming from its last checkpoint: %s", reason, " and ".join(cell.name for cell in cells))


def crash_of(trial: Trial) -> tuple[str, str]:
    """Return the last error that Ray tells of a trial's process, and all that it tells of the last time."""
    # `Trial.get_error` reads a copy in the storage, which is made later.
    file = Path(trial.error_file or "")
    told = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    last = told.rpartition("Failure # ")[2].partition("\n")[2]
    return error_in(last), last


def error_in(told: str) -> str:
    """Return the last error in what Ray tells."""
    errors = [line for line in told.splitlines() if ERROR_LINE.fullmatch(line)]
    return errors[-1] if errors else "its process died, often because memory ran out"
