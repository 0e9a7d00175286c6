"""Reads the journals of trainings, also while they are being written; `tadp_ray.training.reporter` writes them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tadp_ray.errors import UserError
from tadp_ray.layout import JOURNAL, TRACEBACK


def read_journal(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the complete records of a training's journal, oldest first; incomplete lines are skipped."""
    path = folder / JOURNAL
    if not path.is_file():
        return
    yield from records_of(path.read_bytes())


def records_of(lines: bytes) -> Iterator[dict[str, Any]]:
    """Yield the complete records among lines of a journal; incomplete lines are skipped."""
    for line in lines.split(b"\n"):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if is_record(record):
            yield record


def is_record(record: Any) -> bool:
    """Return whether a line of a journal has all fields of its type."""
    if not (isinstance(record, dict) and isinstance(record.get("time", 0), int | float)):
        return False
    if record.get("type") in ("metrics", "finished"):
        return isinstance(record.get("step"), int) and isinstance(record.get("metrics"), dict)
    return isinstance(record.get("type"), str)


class RecordFilter:
    """Selects the records of one training from a journal that may have records of another, as after a copy by hand."""

    def __init__(self, fingerprint: str) -> None:
        self._fingerprint, self._matches = fingerprint, False

    def matches(self, record: dict[str, Any]) -> bool:
        """Return whether a record belongs to the training; call this for each record in order."""
        if record["type"] == "started":
            self._matches = record.get("fingerprint") == self._fingerprint
        return self._matches


class JournalReader:
    """Reads the records of a training that were added to a journal since the last call.

    Records of another training are skipped. A line without a line break is read once it is complete; an incomplete line
    that a restarted training has ended is skipped.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self._path, self._filter = path, RecordFilter(fingerprint)
        self._offset = 0

    def read(self) -> list[dict[str, Any]]:
        """Return the new complete records, oldest first; none if there is no journal."""
        if not self._path.is_file():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            whole, end, _ = file.read().rpartition(b"\n")
        self._offset += len(whole) + len(end)
        return list(filter(self._filter.matches, records_of(whole)))


def check_journal(folder: Path, fingerprint: str, remedy: str = "move this folder away, then run this again") -> None:
    """Check that the journal of a folder belongs to this training, and was not copied by hand or has the same short name.

    Args:
        folder: of the training.
        fingerprint: of the training.
        remedy: what to do if not, for the error.

    Raises:
        UserError: the journal belongs to another training; the message names both fingerprints.
    """
    starts = (str(record.get("fingerprint")) for record in read_journal(folder) if record["type"] == "started")
    if other := next((start for start in starts if start != fingerprint), None):
        raise UserError(f"{folder / JOURNAL}: of another training ({other:.16}, this is {fingerprint:.16}); {remedy}")


def final_metrics(folder: Path, fingerprint: str) -> dict[str, float] | None:
    """Return the final metrics of a training, None if it has not finished; records of another training are ignored."""
    own = filter(RecordFilter(fingerprint).matches, read_journal(folder))
    return next((record["metrics"] for record in own if record["type"] == "finished"), None)


def start_of(folder: Path, fingerprint: str) -> int | None:
    """Return when a training began, in ms since 1970, which is the start of its run; None if it has no journal."""
    return next(map(milliseconds, filter(RecordFilter(fingerprint).matches, read_journal(folder))), None)


def milliseconds(record: dict[str, Any]) -> int:
    """Return the time of a record, in ms since 1970."""
    return int(record.get("time", 0) * 1000)


@dataclass(frozen=True)
class Failure:
    """The error that ended a training."""

    error: str
    traceback: Path | None
    """File with the full traceback of a bug or a crash; None: an error that the user can fix."""


def failure(folder: Path) -> Failure | None:
    """Return the error of a training; None if its journal does not end with one."""
    records = list(read_journal(folder))
    if not records or records[-1]["type"] != "failed":
        return None
    return Failure(records[-1]["error"], folder / TRACEBACK if "traceback" in records[-1] else None)
