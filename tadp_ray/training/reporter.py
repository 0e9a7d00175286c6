"""The core's only window: what a training says while it runs, and where it resumes from.

`Journal` is the reporter that every cell uses, whoever started it. It writes to the cell's own folder, so that no
network, no server and no scheduler can lose a number or hold up a step.
"""

import errno
import json
import os
import shutil
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, Self

from tadp_ray.addresses import masked
from tadp_ray.errors import UserError
from tadp_ray.files import acquire_lock, is_draft, sync, write_text
from tadp_ray.layout import CHECKPOINT, JOURNAL, LOCK, TRACEBACK, WORKER_LOG
from tadp_ray.training.journal import check_journal
from tadp_ray.training.provenance import provenance

Watch = Callable[[int, Mapping[str, float]], None]
"""(step, main metric) -> None."""


class Reporter(Protocol):
    """How a training talks to the world."""

    def report(self, step: int, metrics: Mapping[str, float], checkpoint: Path | None = None) -> None:
        """Tell the metrics of an optimizer step (counted from 1), and where a checkpoint of that step lies."""

    def resume_from(self) -> list[Path]:
        """Checkpoints of this cell, newest first, if it was interrupted before."""


class Journal:
    """Append-only record of one cell, one JSON object a line, on disk before the call returns.

    Holds the cell's lock while open: two processes never train the same cell at once. A process that was killed frees
    the lock, and the next one waits for that.

    Args:
        folder: the cell's own; made if need be.
        fingerprint: the cell's.
        patience: seconds to wait for another process that trains it.
        command: id of the command that has this cell trained; its own records are found by it, whatever the clocks say.

    Raises:
        UserError: another process has been training this cell for `patience` seconds, or the folder holds another training.
    """

    def __init__(self, folder: Path, fingerprint: str, patience: float = 60.0, command: str = "") -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            self._lock = acquire_lock(folder / LOCK, patience)
            held.callback(self._lock.release)
            check_journal(folder, fingerprint)
            # A process that was killed while it wrote leaves a draft, as large as what it wrote. The signs of life that are
            # given meanwhile are drafts for a moment.
            for path in filter(is_draft, folder.iterdir()):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            # Without a buffer, what a full disk does not take is not kept for later, in the middle of another record.
            self._file = held.enter_context((folder / JOURNAL).open("ab+", buffering=0))
            self._torn = False
            if self._file.tell():
                self._file.seek(-1, os.SEEK_END)
                self._torn = self._file.read(1) != b"\n"
            by = {"pid": os.getpid(), "command": command, "provenance": provenance()}
            self._write({"type": "started", "fingerprint": fingerprint, **by})
            sync(folder)
            self._held = held.pop_all()

    def report(self, step: int, metrics: Mapping[str, float], checkpoint: Path | None = None) -> None:
        """Append the metrics of one step."""
        place = {"checkpoint": str(checkpoint)} if checkpoint else {}
        self._write({"type": "metrics", "step": step, "metrics": dict(metrics), **place})

    def resume_from(self) -> list[Path]:
        """The cell's checkpoints, newest first."""
        return checkpoints(self.folder)

    def finish(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append the final metrics: this cell is done and is never trained again."""
        self._write({"type": "finished", "step": step, "metrics": dict(metrics)})
        for path in checkpoints(self.folder):
            path.unlink()
        for name in (TRACEBACK, WORKER_LOG):
            (self.folder / name).unlink(missing_ok=True)

    def fail(self, error: str, trace: str | None = None) -> None:
        """Append why this cell has no result.

        Args:
            error: in a line.
            trace: the whole traceback, kept beside the journal, of what is a bug or a crash; None for what the user can mend.
        """
        if trace is None:
            (self.folder / TRACEBACK).unlink(missing_ok=True)
            self._write({"type": "failed", "error": masked(error)})
        else:
            write_text(self.folder / TRACEBACK, masked(trace))
            self._write({"type": "failed", "error": masked(error), "traceback": TRACEBACK})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        try:
            if isinstance(error, UserError):
                self.fail(str(error))
            elif isinstance(error, Exception):
                self.fail(f"{type(error).__name__}: {error}", "".join(traceback.format_exception(error)))
        finally:
            self._held.close()

    def _write(self, record: dict[str, Any]) -> None:
        # The torn line of a killed process, or of a full disk, must not swallow this record.
        line = b"\n" * self._torn + json.dumps({"time": time.time(), **record}).encode() + b"\n"
        self._torn = True
        if self._file.write(line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._file.name)
        self._torn = False
        os.fsync(self._file.fileno())


class WatchedReporter:
    """A journal that somebody watches, who may end the training by an exception: at every evaluation but the last."""

    def __init__(self, journal: Journal, watch: Watch, metric: str, last: int) -> None:
        self._journal, self._watch, self._metric, self._last = journal, watch, metric, last

    def report(self, step: int, metrics: Mapping[str, float], checkpoint: Path | None = None) -> None:
        """Append the metrics of one step, and tell the watcher how good the model is."""
        self._journal.report(step, metrics, checkpoint)
        if self._metric in metrics and step < self._last:
            self._watch(step, {self._metric: metrics[self._metric]})

    def resume_from(self) -> list[Path]:
        """The cell's checkpoints, newest first."""
        return self._journal.resume_from()


class NullReporter:
    """The reporter of a worker that is not the first: it resumes with the others and leaves speaking to the first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def report(self, step: int, metrics: Mapping[str, float], checkpoint: Path | None = None) -> None:
        """Say nothing."""

    def resume_from(self) -> list[Path]:
        """The cell's checkpoints, newest first."""
        return checkpoints(self._folder)


def progress_line(step: int, steps: int, metrics: Mapping[str, float]) -> str:
    """How far a training has come, given what it last reported: loss and seconds per step."""
    left = timedelta(seconds=round(metrics["seconds_per_step"] * (steps - step)))
    return f"step {step}/{steps}, loss {metrics['loss']:.4f}, {left} left"


def previous_checkpoint(path: Path) -> Path:
    """Where the checkpoint before the one at `path` is kept, in case the newest is torn."""
    return path.with_suffix(f".previous{path.suffix}")


def checkpoints(folder: Path, name: str = CHECKPOINT) -> list[Path]:
    """The checkpoints of a training, newest first."""
    newest = folder / name
    return [path for path in (newest, previous_checkpoint(newest)) if path.is_file()]
