"""Reporters, to which a training reports its metrics, and the checkpoints in its folder.

`Journal` is the reporter of every cell. It writes to the cell's folder only, so a training depends on no network, server
or scheduler.
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
from tadp_ray.files import is_draft, locked, sync, write_text
from tadp_ray.layout import CHECKPOINT, JOURNAL, LOCK, STOPPED, TRACEBACK, WORKER_LOG
from tadp_ray.training.journal import check_journal
from tadp_ray.training.provenance import provenance

LOCK_SECONDS = 300.0
"""How long a network file system may hold the lock of a process whose node is gone, and more: NFS takes 90 by default."""
Watch = Callable[[int, Mapping[str, float]], None]
"""(step, main metric) -> None."""


class Reporter(Protocol):
    """Receives the metrics of a training."""

    def report(self, step: int, metrics: Mapping[str, float], checkpoint: Path | None = None) -> None:
        """Report the metrics of an optimizer step, counted from 1, and the path of a checkpoint of that step."""


class Journal:
    """Append-only journal of one cell, one JSON object per line, synced to disk before a call returns.

    It holds the cell's lock while it is open, so that two processes never train the same cell at once. A killed process
    releases the lock.

    Args:
        folder: folder of the cell; created if missing.
        fingerprint: fingerprint of the cell.
        patience: seconds to wait for another process that trains the cell.
        command: id of the command that trains the cell; it identifies the command's records, independent of clocks.

    Raises:
        UserError: another process still trains the cell after `patience` seconds, or the folder belongs to another training.
    """

    def __init__(self, folder: Path, fingerprint: str, patience: float = LOCK_SECONDS, command: str = "") -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            held.enter_context(locked(folder / LOCK, patience))
            check_journal(folder, fingerprint)
            # A process that was killed while writing leaves a draft. Heartbeat files are briefly drafts too, so a draft may
            # disappear meanwhile.
            for path in filter(is_draft, folder.iterdir()):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            # What a search has stopped early goes on.
            (folder / STOPPED).unlink(missing_ok=True)
            # Unbuffered: a buffer would write the rest of a record later, inside another one, when a disk was full.
            self._file = held.enter_context((folder / JOURNAL).open("ab+", buffering=0))
            self._incomplete_line = False
            if self._file.tell():
                self._file.seek(-1, os.SEEK_END)
                self._incomplete_line = self._file.read(1) != b"\n"
            by = {"pid": os.getpid(), "command": command, "provenance": provenance()}
            self._write({"type": "started", "fingerprint": fingerprint, **by})
            sync(folder)
            self._held = held.pop_all()

    def report(self, step: int, metrics: Mapping[str, float], checkpoint: Path | None = None) -> None:
        """Append the metrics of one step."""
        saved = {"checkpoint": str(checkpoint)} if checkpoint else {}
        self._write({"type": "metrics", "step": step, "metrics": dict(metrics), **saved})

    def finish(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append the final metrics and delete the checkpoints; a finished cell is never trained again."""
        self._write({"type": "finished", "step": step, "metrics": dict(metrics)})
        for path in checkpoints(self.folder):
            path.unlink()
        for name in (TRACEBACK, WORKER_LOG):
            (self.folder / name).unlink(missing_ok=True)

    def fail(self, error: str, trace: str | None = None) -> None:
        """Append the error that ended the training.

        Args:
            error: message of one line.
            trace: full traceback of a bug or a crash, written beside the journal; None for an error that the user can fix.
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
        # The incomplete line of a killed process or a full disk is ended first, so that this record is a line of its own.
        line = b"\n" * self._incomplete_line + json.dumps({"time": time.time(), **record}).encode() + b"\n"
        self._incomplete_line = True
        if self._file.write(line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._file.name)
        self._incomplete_line = False
        os.fsync(self._file.fileno())


class WatchedReporter:
    """A journal with a callback at every evaluation but the last, which may stop the training with an exception."""

    def __init__(self, journal: Journal, watch: Watch, metric: str, last: int) -> None:
        self._journal, self._watch, self._metric, self._last = journal, watch, metric, last

    def report(self, step: int, metrics: Mapping[str, float], checkpoint: Path | None = None) -> None:
        """Append the metrics of one step, and pass the main metric to the callback."""
        self._journal.report(step, metrics, checkpoint)
        if self._metric in metrics and step < self._last:
            self._watch(step, {self._metric: metrics[self._metric]})


class NullReporter:
    """The reporter of processes other than the main one, which report nothing."""

    def report(self, step: int, metrics: Mapping[str, float], checkpoint: Path | None = None) -> None:
        """Do nothing."""


def progress_line(step: int, steps: int, metrics: Mapping[str, float]) -> str:
    """Return a line on a training's progress, from the last reported loss and seconds per step."""
    left = timedelta(seconds=round(metrics["seconds_per_step"] * (steps - step)))
    return f"step {step}/{steps}, loss {metrics['loss']:.4f}, {left} left"


def previous_checkpoint(path: Path) -> Path:
    """Return the path of the previous checkpoint, kept in case the newest one at `path` is incomplete."""
    return path.with_suffix(f".previous{path.suffix}")


def checkpoints(folder: Path, name: str = CHECKPOINT) -> list[Path]:
    """Return the checkpoints of a training, newest first."""
    newest = folder / name
    return [path for path in (newest, previous_checkpoint(newest)) if path.is_file()]
