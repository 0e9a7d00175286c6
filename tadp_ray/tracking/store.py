"""Opens the MLflow store that a sweep writes to, and says early and plainly when it does not answer."""

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
from tadp_ray.layout import ARTIFACTS
from tadp_ray.network import spare_proxy
from tadp_ray.tracking.client import LOST, Client, StoreError, first_line
from tadp_ray.tracking.sqlite import check_database, identity, make_database

PATIENCE = 5.0
PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


@dataclass(frozen=True)
class Store:
    """An MLflow tracking store that has answered."""

    uri: str = field(repr=False)
    client: Client
    opened: tuple[int, int] | None = None
    """What the SQLite file was when it was opened."""

    @property
    def shown(self) -> str:
        """The URI without its secrets, for messages."""
        return masked(self.uri)

    @property
    def database(self) -> Path | None:
        """The store's SQLite file, if it is one."""
        return sqlite_file(self.uri)

    def check(self) -> None:
        """See that the SQLite file is still the one that was opened: what is written to another is lost without a word.

        Raises:
            StoreError: it was removed or replaced.
        """
        if self.database and self.opened and identity(self.database) != self.opened:
            raise StoreError(self.shown, f"{self.database.name} was removed or replaced since this command began")

    def experiment_id(self, name: str) -> str:
        """The MLflow experiment of this name, made if it is not there yet."""
        found = self.client.get_experiment_by_name(name)
        if found is None:
            # Without a server MLflow would put artifacts into whatever folder the process happens to stand in.
            place = (self.database.parent / ARTIFACTS / name).as_uri() if self.database else None
            # The tag makes its page open on training runs rather than on conversations.
            tags = {"mlflow.experimentKind": "custom_model_development"}
            try:
                return self.client.create_experiment(name, artifact_location=place, tags=tags)
            except StoreError as error:
                # Another command was a moment faster.
                if error.code != "RESOURCE_ALREADY_EXISTS":
                    raise
                return self.experiment_id(name)
        if found.lifecycle_stage != "active":
            raise UserError(
                f"{self.shown}: the MLflow experiment {name!r} was deleted; restore it in MLflow, or purge it with "
                "`mlflow gc`, then run this again"
            )
        return found.experiment_id


def open_store(uri: str | None = None, *, make: bool = True) -> Store:
    """Open the store at `uri`, else at MLFLOW_TRACKING_URI, else in ./mlflow.db.

    Args:
        uri: where.
        make: whether a SQLite file that is not there is made, rather than missed.

    Raises:
        UserError: nothing usable answers there within some five seconds.
    """
    # A server on this machine is asked past a proxy.
    spare_proxy()
    uri = absolute(uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db")
    mend = "start it, fix the URI (--tracking-uri or MLFLOW_TRACKING_URI), or leave it out to use ./mlflow.db"
    # Making the schema of a new database takes seconds and tells each of its steps; what a database refuses, whoever asked
    # it tells in a line.
    for name, level in {"alembic": logging.WARNING, "mlflow.store.db.utils": logging.CRITICAL}.items():
        logging.getLogger(name).setLevel(level)
    file = sqlite_file(uri)
    if file:
        prepare(file, make)
    try:
        ping(uri)
        client = Client(uri)
        client.search_experiments(max_results=1)
    except (*LOST, StoreError, ImportError, ValueError) as error:
        raise UserError(f"MLflow at {masked(uri)} does not answer ({first_line(error)}): {mend}") from None
    return Store(uri, client, identity(file) if file else None)


def sqlite_file(uri: str) -> Path | None:
    """The SQLite file that an address names, if it names one."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def prepare(file: Path, make: bool) -> None:
    """See that a SQLite file can be used, and make it if it is not there.

    Raises:
        UserError: it cannot, or is not there and not to be made.
    """
    if check_database(file):
        if make and not (os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)):
            raise UserError(f"{file}: cannot be written; mend its rights and its folder's, or name another store")
        return
    if not make:
        raise UserError(
            f"{file}: there is no such store; name the one that sweeps were run with (--tracking-uri or "
            "MLFLOW_TRACKING_URI)"
        )
    make_database(file)


def absolute(uri: str) -> str:
    """The URI with an absolute path if it is a SQLite file's, since Ray's workers start in folders of their own."""
    path = uri.removeprefix("sqlite:///")
    return uri if path == uri else f"sqlite:///{Path(path).absolute()}"


def ping(uri: str) -> None:
    """See whether anybody listens behind a network address; any answer counts, MLflow's client judges it after.

    Raises:
        OSError: refused, unknown, or silent for `PATIENCE` seconds.
    """
    place = urlsplit(uri)
    if place.scheme in ("http", "https"):
        address = place._replace(netloc=place.netloc.rpartition("@")[2]).geturl().rstrip("/")
        try:
            urllib.request.urlopen(f"{address}/health", timeout=PATIENCE).close()  # noqa: S310 - http and https alone
        except urllib.error.HTTPError as answer:
            answer.close()
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ssl.SSLError):
                raise
    elif place.hostname and place.scheme.partition("+")[0] in PORTS:
        port = place.port or PORTS[place.scheme.partition("+")[0]]
        socket.create_connection((place.hostname, port), timeout=PATIENCE).close()
