"""Opens an MLflow store, and fails early with a clear message if it cannot be reached."""

import logging
import os
import socket
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tadp_ray.addresses import masked
from tadp_ray.errors import UserError
from tadp_ray.network import bypass_proxy
from tadp_ray.tracking.client import Client, StoreError, first_line, mlflow_errors
from tadp_ray.tracking.moved import follow
from tadp_ray.tracking.sqlite import artifacts_beside, check_database, identity, make_database, sqlite_file, sqlite_uri

PATIENCE = 5.0
PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


@dataclass(frozen=True)
class Store:
    """An MLflow tracking store that can be reached."""

    uri: str = field(repr=False)
    client: Client
    opened: tuple[int, int] | None = None
    """Device and inode of the SQLite file when it was opened."""

    @property
    def safe_uri(self) -> str:
        """The URI without secrets, for messages."""
        return masked(self.uri)

    @property
    def database(self) -> Path | None:
        """The store's SQLite file; None for other stores."""
        return sqlite_file(self.uri)

    def check(self) -> None:
        """Check that the SQLite file is still the one that was opened; writes to a removed file would be lost silently.

        Raises:
            StoreError: it was removed or replaced.
        """
        if self.database and self.opened and identity(self.database) != self.opened:
            raise StoreError(
                self.safe_uri, f"{self.database.name} was removed or replaced while this command was running"
            )

    def experiment_id(self, name: str) -> str:
        """Return the id of the MLflow experiment with this name; create it if needed."""
        found = self.client.get_experiment_by_name(name)
        if found is None:
            # Without a server MLflow would write artifacts into the current directory.
            location = (artifacts_beside(self.database) / name).as_uri() if self.database else None
            # With this tag its page opens on training runs rather than on traces.
            tags = {"mlflow.experimentKind": "custom_model_development"}
            try:
                return self.client.create_experiment(name, artifact_location=location, tags=tags)
            except StoreError as error:
                # Another process created it first.
                if error.code != "RESOURCE_ALREADY_EXISTS":
                    raise
                return self.experiment_id(name)
        if found.lifecycle_stage != "active":
            raise UserError(
                f"{self.safe_uri}: the MLflow experiment {name!r} was deleted; restore it in MLflow, or purge it with "
                "`mlflow gc`, then run this again"
            )
        return found.experiment_id


def existing_store(uri: str | None = None) -> Store | None:
    """Open the store as `open_store` does; None if its SQLite file is missing, which is not created."""
    file = sqlite_file(store_uri(uri))
    return None if file and not file.exists() else open_store(uri)


def store_uri(uri: str | None) -> str:
    """Return the URI given, else MLFLOW_TRACKING_URI, else that of ./mlflow.db; of a SQLite file with an absolute path.

    Raises:
        UserError: a SQLite file has parameters, or is named without `sqlite:///`.
    """
    chosen = uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    file = sqlite_file(chosen)
    is_path = "://" not in chosen and (Path(chosen).suffix == ".db" or Path(chosen).is_file())
    if file is None and (is_path or chosen.startswith("sqlite:")):
        raise UserError(
            f"{chosen}: the address of a SQLite file begins with sqlite:///, as in sqlite:///mlflow.db, or in "
            "sqlite:////home/me/mlflow.db with an absolute path"
        )
    return sqlite_uri(file) if file else chosen


def open_store(uri: str | None = None, *, make: bool = True) -> Store:
    """Open the store at `uri`, else at MLFLOW_TRACKING_URI, else in ./mlflow.db.

    Args:
        uri: of the store.
        make: whether to create a missing SQLite file.

    Raises:
        UserError: the store cannot be used, or does not answer within five seconds.
    """
    # A server on this machine is not reached through a proxy.
    bypass_proxy()
    uri = store_uri(uri)
    remedy = "start it, fix the URI (--tracking-uri or MLFLOW_TRACKING_URI), or leave it out to use ./mlflow.db"
    # MLflow logs every step of creating a schema, and every refused statement, which its caller reports in one line.
    for name, level in {"alembic": logging.WARNING, "mlflow.store.db.utils": logging.CRITICAL}.items():
        logging.getLogger(name).setLevel(level)
    file = sqlite_file(uri)
    if file:
        prepare(file, make)
        follow(file)
    try:
        ping(uri)
        client = Client(uri)
        client.search_experiments(max_results=1)
    except (*mlflow_errors(), StoreError, ImportError, ValueError) as error:
        raise UserError(f"MLflow at {masked(uri)} does not answer ({first_line(error)}): {remedy}") from None
    return Store(uri, client, identity(file) if file else None)


def prepare(file: Path, make: bool) -> None:
    """Check a SQLite file, and create it if it is missing and `make` is set.

    Raises:
        UserError: it cannot be used, or is missing.
    """
    if check_database(file):
        if make and not (os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)):
            raise UserError(
                f"{file}: cannot be written; change its permissions and its folder's, or name another store"
            )
        return
    if not make:
        raise UserError(
            f"{file}: there is no such store; run a sweep in this folder first, or name the store that the sweeps used "
            "(--tracking-uri or MLFLOW_TRACKING_URI)"
        )
    make_database(file)


def ping(uri: str) -> None:
    """Check that a server listens at a network address; any reply counts.

    Raises:
        OSError: the connection is refused, the host is unknown, or it is silent for `PATIENCE` seconds.
    """
    parts = urlsplit(uri)
    if parts.scheme in ("http", "https"):
        address = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")
        try:
            urllib.request.urlopen(f"{address}/health", timeout=PATIENCE).close()  # noqa: S310 - http and https alone
        except urllib.error.HTTPError as answer:
            answer.close()
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ssl.SSLError):
                raise
    elif parts.hostname and parts.scheme.partition("+")[0] in PORTS:
        port = parts.port or PORTS[parts.scheme.partition("+")[0]]
        socket.create_connection((parts.hostname, port), timeout=PATIENCE).close()
