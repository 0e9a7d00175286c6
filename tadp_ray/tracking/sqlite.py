"""MLflow's database in a file: made whole or not at all, and named with the mend where it cannot be used."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from tadp_ray.errors import UserError
from tadp_ray.files import acquire_lock, replace_on_disk
from tadp_ray.layout import ARTIFACTS

PATIENCE = 5.0
"""Seconds that a locked file is waited for."""
MAKING_PATIENCE = 300.0
"""Seconds that another process may take to make the file: a busy machine takes a minute."""
MEND = (
    "move it away and run the same sweep or training again: that makes a new one, sends there what its journals hold and "
    "trains nothing twice (`tadp-ray tracking flush` sends the others)"
)
COMPANIONS = ("-journal", "-wal", "-shm")
"""Files that SQLite keeps beside its own."""


def check_database(file: Path) -> bool:
    """Whether a file holds MLflow's database; False if there is nothing in it.

    Raises:
        UserError: it is something else, or cannot be used.
    """
    if not os.path.lexists(file):
        return False
    if not file.is_file():
        raise UserError(f"{file}: is {'a folder' if file.is_dir() else 'no file'}, not an MLflow database; {MEND}")
    if not os.access(file, os.R_OK):
        raise UserError(f"{file}: cannot be read; mend its rights, or name another store (--tracking-uri)")
    with file.open("rb") as opened:
        head = opened.read(16)
    if not head:
        return False
    if head != b"SQLite format 3\0":
        raise UserError(f"{file}: is no SQLite database; {MEND}")
    try:
        return check_tables(file)
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise UserError(
                f"{file}: another process has locked it for {PATIENCE:g} seconds; wait for it or stop it, then run this again"
            ) from None
        raise UserError(f"{file}: cannot be used ({error}); mend its rights and its folder's, or else {MEND}") from None
    except sqlite3.DatabaseError as error:
        raise UserError(f"{file}: is damaged ({error}); {MEND}") from None


def check_tables(file: Path) -> bool:
    """Whether a SQLite file holds MLflow's tables as this MLflow makes them; False if it holds none at all.

    Raises:
        UserError: they are older, half made, or another program's.
        sqlite3.Error: the file cannot be read.
    """
    # Costs a second that only those pay who open such a file.
    from mlflow.store.db.utils import Base, _get_latest_schema_revision

    with closing(sqlite3.connect(file, timeout=PATIENCE)) as database:
        tables = {name for (name,) in database.execute("select name from sqlite_master where type = 'table'")}
        if not tables:
            return False
        lacking = set(Base.metadata.tables) - tables
        used = "experiments" in tables and database.execute("select 1 from experiments limit 1").fetchone()
        if used and not lacking:
            return True
        versions = "select version_num from alembic_version" if "alembic_version" in tables else "select null"
        (found,) = database.execute(versions).fetchone() or (None,)
    newest = _get_latest_schema_revision()
    if found == newest and not lacking:
        return True
    if used and found:
        raise UserError(
            f"{file}: was made by another version of MLflow (schema {found}, this one's is {newest}); keep a copy and run "
            f"`mlflow db upgrade sqlite:///{file}`, or else {MEND}"
        )
    if not tables & {*Base.metadata.tables, "alembic_version"}:
        raise UserError(f"{file}: is another program's database; name another file (--tracking-uri)")
    raise UserError(f"{file}: was left half made, by a command that was killed while it made it; {MEND}")


def make_database(file: Path) -> None:
    """Make MLflow's database in a draft beside its place and put it there whole; who comes second finds it made.

    Raises:
        UserError: the folder cannot be written.
    """
    draft = file.with_name(f"{file.name}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = acquire_lock(file.with_name(f"{file.name}.lock"), MAKING_PATIENCE)
        try:
            if check_database(file):
                return
            # What a killed process left would be taken for a part of the new file.
            for left in (draft, *(path.with_name(path.name + end) for path in (draft, file) for end in COMPANIONS)):
                left.unlink(missing_ok=True)
            fill(draft, file.parent)
            replace_on_disk(draft, file)
        finally:
            lock.release()
    except (OSError, sqlite3.Error) as error:
        raise UserError(
            f"{file}: cannot be made ({error}); mend the rights of its folder, or name another store (--tracking-uri)"
        ) from None


def fill(draft: Path, folder: Path) -> None:
    """Make the tables, and MLflow's experiment 0, which two processes that open a new database would both make."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    uri = f"sqlite:///{draft}"
    store = SqlAlchemyStore(uri, (folder / ARTIFACTS).as_uri())
    # MLflow keeps connections by address: they must not stay open to a file that moves.
    store.engine.dispose()
    SqlAlchemyStore._engine_map.pop(uri, None)


def identity(file: Path) -> tuple[int, int] | None:
    """What tells a file from another that takes its place; None if there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
