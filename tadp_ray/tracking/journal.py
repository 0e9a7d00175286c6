"""Reads a cell's journal while the cell is still writing it."""

import json
from pathlib import Path
from typing import Any


class Tail:
    """The records that were added to a journal since the last look.

    A line without its end is left until it is complete; a torn line that a restarted cell has closed is skipped.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> list[dict[str, Any]]:
        """New whole records, oldest first; none while there is no journal."""
        if not self._path.is_file():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            whole, end, _ = file.read().rpartition(b"\n")
        self._offset += len(whole) + len(end)
        return [record for line in whole.split(b"\n") if (record := parse(line)) is not None]


def parse(line: bytes) -> dict[str, Any] | None:
    """The record of a line, None if the line is torn."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
