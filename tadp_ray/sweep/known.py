"""What this user's plans have checked and counted, which no later command has to do again."""

import json
import re
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, requires
from typing import Any

from tadp_ray.config.cell import Cell
from tadp_ray.config.fingerprint import sha256_of
from tadp_ray.files import user_cache
from tadp_ray.layout import PLANS
from tadp_ray.plugins import plugin_versions
from tadp_ray.training.provenance import contents, installed


class Known:
    """JSON values by the hash of all that they depend on. Other code and other versions of any required package know none yet.

    They are in the user's cache, since a dry run writes nothing into the working folder. Beside plug-ins nothing is kept, since
    their code may change within a version; nor is it where versions are unknown.
    """

    def __init__(self) -> None:
        known = None if plugin_versions() else environment()
        self._file = user_cache() / PLANS / f"{known[:16]}.jsonl" if known else None
        lines: list[bytes] = []
        with suppress(OSError):
            lines = self._file.read_bytes().split(b"\n") if self._file else []
        self._values: dict[str, Any] = dict(filter(None, map(read_line, lines)))

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __setitem__(self, key: str, value: Any) -> None:
        """Keep a value, also for other processes: several may write, since a line is written at once. A full disk keeps none."""
        self._values[key] = value
        # What a killed process has left of a line ends before this one.
        line = b"\n" + json.dumps([key, value, sha256_of([key, value])]).encode() + b"\n"
        with suppress(OSError):
            if self._file:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                with self._file.open("ab", buffering=0) as file:
                    file.write(line)


@cache
def environment() -> str | None:
    """Return a hash of this package's code and of the versions of all packages that it requires; None if it is not installed."""
    try:
        names = {re.split(r"[^\w.-]", requirement, maxsplit=1)[0] for requirement in requires("tadp_ray") or ()}
    except PackageNotFoundError:
        return None
    return sha256_of([contents(), sorted(f"{name} {installed(name)}" for name in names)])


def read_line(line: bytes) -> tuple[str, Any] | None:
    """Return a key and its value; None for an incomplete or damaged line."""
    try:
        key, value, checksum = json.loads(line)
    except (ValueError, TypeError):
        return None
    return (key, value) if sha256_of([key, value]) == checksum else None


def key_of(kind: str, cell: Cell) -> str:
    """Return the key of what a cell's settings, data, captions and weights decide, whatever its seed."""
    return sha256_of([kind, cell.recipe.model_dump(mode="json"), dict(cell.digests)])
