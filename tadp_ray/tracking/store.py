"""Opens the MLflow store that a sweep writes to, and says early and plainly when it does not answer."""

import logging
import os
import re
import socket
import ssl
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from tadp_ray.errors import UserError

# MLflow's own defaults wait for minutes on a dead server; what is lost here is sent again by the sender. It also
# reports usage to its makers and prints two lines for every run that ends, unless told not to. What the user has set
# stands.
for _name, _value in {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}.items():
    os.environ.setdefault(_name, _value)

from mlflow import MlflowClient  # noqa: E402 - reads the environment above
from mlflow.exceptions import MlflowException  # noqa: E402

PATIENCE = 5.0
PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


@dataclass(frozen=True)
class Store:
    """An MLflow tracking store that has answered."""

    uri: str
    client: MlflowClient

    @property
    def shown(self) -> str:
        """The URI without its password, for messages."""
        return without_password(self.uri)

    @property
    def database(self) -> Path | None:
        """The store's SQLite file, if it is one."""
        return Path(self.uri.removeprefix("sqlite:///")) if self.uri.startswith("sqlite:///") else None

    def experiment_id(self, name: str) -> str:
        """The MLflow experiment of this name, made if it is not there yet."""
        found = self.client.get_experiment_by_name(name)
        if found is None:
            # Without a server MLflow would put artifacts into whatever folder the process happens to stand in.
            place = (self.database.parent / "mlartifacts" / name).as_uri() if self.database else None
            # The tag makes its page open on training runs rather than on conversations.
            tags = {"mlflow.experimentKind": "custom_model_development"}
            return self.client.create_experiment(name, artifact_location=place, tags=tags)
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
    uri = absolute(uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db")
    mend = "start it, fix the URI (--tracking-uri or MLFLOW_TRACKING_URI), or leave it out to use ./mlflow.db"
    if not make and (file := Store(uri, None).database) and not file.is_file():
        raise UserError(
            f"{file}: there is no such store; name the one that sweeps were run with (--tracking-uri or "
            "MLFLOW_TRACKING_URI)"
        )
    # Making the schema of a new database takes seconds and tells each of its steps; what a database refuses, whoever asked
    # it tells in a line.
    for name, level in {"alembic": logging.WARNING, "mlflow.store.db.utils": logging.CRITICAL}.items():
        logging.getLogger(name).setLevel(level)
    try:
        knock(uri)
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    except (OSError, HTTPException, MlflowException, ImportError) as error:
        raise UserError(f"MLflow at {without_password(uri)} does not answer ({first_line(error)}): {mend}") from None
    return Store(uri, client)


def absolute(uri: str) -> str:
    """The URI with an absolute path if it is a SQLite file's, since Ray's workers start in folders of their own."""
    path = uri.removeprefix("sqlite:///")
    return uri if path == uri else f"sqlite:///{Path(path).absolute()}"


def knock(uri: str) -> None:
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


def without_password(text: str) -> str:
    """A URI, or a text that holds some, as it may be printed."""
    return re.sub(r"(://[^/\s:@]*):[^/\s]+@", r"\1:***@", text)


def first_line(error: BaseException) -> str:
    """What an error says, in one line; MLflow's own tell whole URIs."""
    return without_password((str(error).strip() or type(error).__name__).splitlines()[0])


def to_console(text: str) -> None:
    """Tell the user something beside the progress display."""
    print(text, file=sys.stderr, flush=True)
