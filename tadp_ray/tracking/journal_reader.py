"""Reads a cell's journal while the cell is still writing it."""

from pathlib import Path
from typing import Any

from tadp_ray.training.reporter import records_of


class JournalReader:
    """The records of a training that were added to a journal since the last look.

    Those that another training has written, in a folder that was copied by hand, are none of it. A line without its end is
    left until it is complete; a torn line that a restarted cell has closed is skipped.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self._path, self._fingerprint, self._own = path, fingerprint, False
        self._offset = 0

    def read(self) -> list[dict[str, Any]]:
        """New whole records, oldest first; none while there is no journal."""
        if not self._path.is_file():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            whole, end, _ = file.read().rpartition(b"\n")
        self._offset += len(whole) + len(end)
        return [record for record in records_of(whole) if self._is_own(record)]

    def _is_own(self, record: dict[str, Any]) -> bool:
        if record["type"] == "started":
            self._own = record.get("fingerprint") == self._fingerprint
        return self._own
