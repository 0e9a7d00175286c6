"""Makes the paths that a store has recorded those of its own folder, after that was moved or copied."""

import fcntl
import json
import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from tadp_ray.errors import UserError
from tadp_ray.files import locked, write_json
from tadp_ray.layout import ARTIFACTS, CELL, PLAN
from tadp_ray.tracking.sqlite import MAKING_PATIENCE, PATIENCE, artifacts_beside

log = logging.getLogger(__name__)


def follow(file: Path) -> None:
    """Rewrite what a SQLite file, and the artifacts beside it, have recorded of another folder, in which they were before.

    Without this a copy would write to the original's artifacts, and a moved folder would not find its own. Artifacts at other
    places, which a user has chosen, are left alone.

    Raises:
        UserError: the file or its folder cannot be written.
    """
    try:
        old = former_folder(file)
        if old is None:
            return
        # A container, for instance, which knows this folder by another path and writes there.
        if is_in_use(file):
            log.warning(
                "%s: a sweep is running here that knows this folder as %s; its files are there", file.parent, old
            )
            return
        with locked(file.with_name(f"{file.name}.lock"), MAKING_PATIENCE):
            # Another process may have rewritten it by now.
            if former_folder(file):
                log.warning("%s: moved or copied from %s; the paths in its MLflow store were updated", file.parent, old)
                # The database is last, so that all is done again after a process that was killed.
                rewrite_records(old, artifacts_beside(file))
                rewrite_database(file, old)
    except (OSError, sqlite3.Error) as error:
        raise UserError(
            f"{file}: cannot be adapted to the folder in which it is now ({error}); change the permissions of both"
        ) from None


@contextmanager
def in_use(file: Path | None) -> Iterator[None]:
    """Keep commands that know a SQLite file by another path from rewriting it during the block; None: of another store.

    Several sweeps may use it at once.
    """
    if file is None:
        yield
        return
    # NFS grants a shared lock to readers only, and an exclusive one to writers.
    with users_file(file).open("a+b") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        yield


def is_in_use(file: Path) -> bool:
    """Return whether a sweep uses a SQLite file."""
    if not users_file(file).is_file():
        return False
    with users_file(file).open("a+b") as users:
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def users_file(file: Path) -> Path:
    """Return the file that the sweeps of a SQLite file lock."""
    return file.with_name(f"{file.name}.sweeps")


def former_folder(file: Path) -> Path | None:
    """Return the folder that a SQLite file records as its own; None if it is its own.

    None, too, if only the file was copied: its artifacts are where they were.
    """
    root = artifact_root(file)
    if root is None:
        return None
    old, new = Path(url2pathname(urlsplit(root).path)), artifacts_beside(file)
    alone = os.path.isdir(old) and not os.path.isdir(new)
    return None if alone or is_same(old, new) or is_same(old.parent, new.parent) else old.parent


def artifact_root(file: Path) -> str | None:
    """Return the URI of the artifact folder beside which a SQLite file was made; None if another program made it.

    It is in MLflow's experiment 0, which has no runs of ours.
    """
    with closing(sqlite3.connect(file, timeout=PATIENCE)) as database:
        found = database.execute("select artifact_location from experiments where experiment_id = 0").fetchone()
    location = (found and found[0]) or ""
    own = location.startswith("file:///") and location.endswith(f"/{ARTIFACTS}/0")
    return location.removesuffix("/0") if own else None


def is_same(left: Path, right: Path) -> bool:
    """Return whether two paths lead to one folder, as links and mounts do; False if one of them leads nowhere."""
    try:
        return left.samefile(right)
    except OSError:
        return False


def rewrite_database(file: Path, old: Path) -> None:
    """Replace the former folder in a SQLite file in one transaction: in the locations of artifacts, and in tags."""
    old_root, new = artifact_root(file), artifacts_beside(file)
    with closing(sqlite3.connect(file, timeout=PATIENCE)) as database, database:
        for table, column in {"experiments": "artifact_location", "runs": "artifact_uri"}.items():
            database.execute(
                f"update {table} set {column} = ?1 || substr({column}, length(?2) + 1) "  # noqa: S608 - names from above
                f"where substr({column}, 1, length(?2) + 1) = ?2 || '/'",
                (new.as_uri(), old_root),
            )
        # Such as the path of a cell's weights.
        tags = database.execute("select rowid, value from tags where substr(value, 1, length(?1)) = ?1", (f"{old}/",))
        changed = [(moved(value, old, new.parent), row) for row, value in tags.fetchall()]
        database.executemany("update tags set value = ? where rowid = ?", changed)


def rewrite_records(old: Path, artifacts: Path) -> None:
    """Replace the former folder in the plans of sweeps and the records of cells among the artifacts."""
    for path in [path for name in (PLAN, CELL) for path in artifacts.rglob(name)]:
        try:
            record = json.loads(path.read_bytes())
        except ValueError:
            # Incomplete, which is said when it is needed.
            continue
        if (changed := moved(record, old, artifacts.parent)) != record:
            write_json(path, changed)


def moved(value: Any, old: Path, new: Path) -> Any:
    """Return a JSON value whose paths below the folder `old` are those below `new`, if they exist there."""
    if isinstance(value, dict):
        return {key: moved(each, old, new) for key, each in value.items()}
    if isinstance(value, list):
        return [moved(each, old, new) for each in value]
    if not isinstance(value, str) or not PurePath(value).is_relative_to(old):
        return value
    path = new / PurePath(value).relative_to(old)
    return str(path) if os.path.exists(path) else value
