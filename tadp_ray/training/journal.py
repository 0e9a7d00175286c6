"""Reads the journals of trainings, whole or while they are being written; `tadp_ray.training.reporter` writes them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tadp_ray.errors import UserError
from tadp_ray.layout import JOURNAL, TRACEBACK


def read_journal(folder: Path) -> Iterator[dict[str, Any]]:
    """The whole records of a training's journal, oldest first; torn lines are skipped."""
    path = folder / JOURNAL
    if not path.is_file():
        return
    yield from records_of(path.read_bytes())


def records_of(lines: bytes) -> Iterator[dict[str, Any]]:
    """The whole records among lines of a journal; lines that are torn or lack something are skipped."""
    for line in lines.split(b"\n"):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if is_record(record):
            yield record


def is_record(record: Any) -> bool:
    """Whether a line of a journal holds all that its kind tells."""
    if not (isinstance(record, dict) and isinstance(record.get("time", 0), int | float)):
        return False
    if record.get("type") in ("metrics", "finished"):
        return isinstance(record.get("step"), int) and isinstance(record.get("metrics"), dict)
    return isinstance(record.get("type"), str)


class Owner:
    """Tells the records of one training from those of another that wrote the same file before it was copied by hand."""

    def __init__(self, fingerprint: str) -> None:
        self._fingerprint, self._own = fingerprint, False

    def owns(self, record: dict[str, Any]) -> bool:
        """Whether a record is the training's; to be asked of one after the other."""
        if record["type"] == "started":
            self._own = record.get("fingerprint") == self._fingerprint
        return self._own


class JournalReader:
    """The records of a training that were added to a journal since the last look.

    Another training's are left out. A line without its end is left until it is complete; a torn line that a restarted
    training has closed is skipped.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self._path, self._owner = path, Owner(fingerprint)
        self._offset = 0

    def read(self) -> list[dict[str, Any]]:
        """New whole records, oldest first; none while there is no journal."""
        if not self._path.is_file():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            whole, end, _ = file.read().rpartition(b"\n")
        self._offset += len(whole) + len(end)
        return [record for record in records_of(whole) if self._owner.owns(record)]


def check_journal(folder: Path, fingerprint: str) -> None:
    """Refuse a folder whose journal is of another training: one that was copied by hand, or whose short name is the same.

    Raises:
        UserError: names both fingerprints.
    """
    starts = (str(record.get("fingerprint")) for record in read_journal(folder) if record["type"] == "started")
    if other := next((start for start in starts if start != fingerprint), None):
        raise UserError(
            f"{folder / JOURNAL}: of another training ({other:.16}, this is {fingerprint:.16}); move this folder away, then "
            "run this again"
        )


def final_metrics(folder: Path, fingerprint: str) -> dict[str, float] | None:
    """The final metrics of a finished training, None if it has not finished. Another training's journal says nothing of it."""
    owner = Owner(fingerprint)
    for record in read_journal(folder):
        if owner.owns(record) and record["type"] == "finished":
            return record["metrics"]
    return None


@dataclass(frozen=True)
class Failure:
    """Why a training has no result."""

    error: str
    traceback: Path | None
    """File with the whole traceback of a bug or a crash; None: something that the user can mend."""


def failure(folder: Path) -> Failure | None:
    """How a training failed; None if its journal does not end so."""
    records = list(read_journal(folder))
    if not records or records[-1]["type"] != "failed":
        return None
    return Failure(records[-1]["error"], folder / TRACEBACK if "traceback" in records[-1] else None)
