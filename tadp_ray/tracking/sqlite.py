"""Creates and checks MLflow's SQLite database, and converts between its path and its URI."""

import os
import shlex
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote

from tadp_ray.errors import UserError
from tadp_ray.files import locked, replace_on_disk
from tadp_ray.layout import ARTIFACTS
from tadp_ray.tracking.client import PREFIX, first_line, mlflow_errors, named_driver

PATIENCE = 5.0
"""Seconds to wait for a locked file."""
MAKING_PATIENCE = 300.0
"""Seconds to wait for another process that creates the file, which takes a minute on a busy machine."""
REMEDY = (
    "move it away and run the same sweep or training again: that creates a new one, sends its journals there and trains "
    "nothing twice (`tadp-ray tracking flush` sends the others)"
)
COMPANIONS = ("-journal", "-wal", "-shm")
"""Suffixes of the files that SQLite keeps beside the database."""


def sqlite_uri(file: Path) -> str:
    """Return the URI of a SQLite file, with an absolute path, since Ray's workers start in other folders."""
    # SQLAlchemy decodes %XX in the path, which ends at a question mark.
    return PREFIX + str(file.absolute()).replace("%", "%25").replace("?", "%3F")


def sqlite_file(uri: str) -> Path | None:
    """Return the SQLite file of a URI; None for other stores.

    Raises:
        UserError: the URI has parameters.
    """
    if not uri.startswith(PREFIX):
        return None
    if "?" in uri:
        raise UserError(f"{uri}: the address of a SQLite file has no parameters; write a ? in its path as %3F")
    return Path(unquote(uri.removeprefix(PREFIX)))


def artifacts_beside(file: Path) -> Path:
    """Return the folder of the artifacts beside a SQLite file, the same through whatever link the file is reached."""
    return file.parent.resolve() / ARTIFACTS


def check_database(file: Path) -> bool:
    """Return whether a file holds MLflow's database; False if it is missing or empty.

    Raises:
        UserError: it is another file, or cannot be used.
    """
    if not os.path.lexists(file):
        return False
    if not file.is_file():
        raise UserError(f"{file}: is {'a folder' if file.is_dir() else 'no file'}, not an MLflow database; {REMEDY}")
    if not os.access(file, os.R_OK):
        raise UserError(f"{file}: cannot be read; change its permissions, or name another store (--tracking-uri)")
    with file.open("rb") as opened:
        head = opened.read(16)
    if not head:
        return False
    if head != b"SQLite format 3\0":
        raise UserError(f"{file}: is not a SQLite database; {REMEDY}")
    try:
        return check_tables(file)
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise UserError(
                f"{file}: another process has locked it for {PATIENCE:g} seconds; wait for it or stop it, then run this again"
            ) from None
        raise UserError(
            f"{file}: cannot be used ({error}); change its permissions and its folder's, or else {REMEDY}"
        ) from None
    except sqlite3.DatabaseError as error:
        raise UserError(f"{file}: is damaged ({error}); {REMEDY}") from None


def check_tables(file: Path) -> bool:
    """Return whether a SQLite file holds the tables of this MLflow version; False if it has no tables.

    Raises:
        UserError: the tables are of another version, incomplete, or another program's.
        sqlite3.Error: the file cannot be read.
    """
    # Importing it takes a second.
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
            f"{file}: was created by another version of MLflow (schema {found}, this one's is {newest}); keep a copy and run "
            f"`mlflow db upgrade {shlex.quote(sqlite_uri(file))}`, or else {REMEDY}"
        )
    if not tables & {*Base.metadata.tables, "alembic_version"}:
        raise UserError(f"{file}: is another program's database; name another file (--tracking-uri)")
    raise UserError(f"{file}: is incomplete, because the command that created it was killed; {REMEDY}")


def make_database(file: Path) -> None:
    """Create MLflow's database atomically, once even if several processes try.

    Raises:
        UserError: the folder cannot be written.
    """
    draft = file.with_name(f"{file.name}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with locked(file.with_name(f"{file.name}.lock"), MAKING_PATIENCE):
            if check_database(file):
                return
            # SQLite would take the leftovers of a killed process for a part of the new file.
            for left in (draft, *(path.with_name(path.name + end) for path in (draft, file) for end in COMPANIONS)):
                left.unlink(missing_ok=True)
            create_tables(draft, artifacts_beside(file))
            replace_on_disk(draft, file)
    except (*mlflow_errors(), sqlite3.Error) as error:
        raise UserError(
            f"{file}: cannot be created ({first_line(error)}); change the permissions of its folder, or name another store "
            "(--tracking-uri)"
        ) from None


def create_tables(draft: Path, artifacts: Path) -> None:
    """Create the tables and MLflow's experiment 0, which two processes that open a new database would both create."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    uri = named_driver(sqlite_uri(draft))
    store = SqlAlchemyStore(uri, artifacts.as_uri())
    # MLflow caches connections by address, and the file is about to move.
    store.engine.dispose()
    SqlAlchemyStore._engine_map.pop(uri, None)


def identity(file: Path) -> tuple[int, int] | None:
    """Return what distinguishes a file from one that replaces it; None if it does not exist."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
