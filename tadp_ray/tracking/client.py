"""MLflow's client, with one exception class for all its failures."""

from collections.abc import Callable
from functools import wraps
from http.client import HTTPException
from typing import Any

from tadp_ray.addresses import masked
from tadp_ray.errors import UserError

PREFIX = "sqlite:///"
"""What the URI of a SQLite file begins with."""
ARTIFACT_METHODS = ("log_artifact", "log_dict", "list_artifacts", "download_artifacts")


class StoreError(UserError):
    """MLflow cannot be used, or refuses a value."""

    def __init__(self, safe_uri: str, reason: str, code: str | None = None) -> None:
        super().__init__(
            f"MLflow at {safe_uri} failed ({reason}): fix it, then run this again; the journals keep all results"
        )
        self.reason = masked(reason)
        """MLflow's message."""
        self.code = code
        """MLflow's error code."""

    @property
    def refused(self) -> bool:
        """Whether MLflow will never accept the value."""
        return self.code == "INVALID_PARAMETER_VALUE"


class Client:
    """MLflow's client, whose failures are all a `StoreError`."""

    def __init__(self, uri: str) -> None:
        # Its import takes seconds, which a command without a store does not need.
        from mlflow import MlflowClient
        from mlflow.tracking._tracking_service.utils import _artifact_repos_cache

        # It says where a run's files are, by the run alone, which a copied folder has as well.
        _artifact_repos_cache.clear()
        self._client, self._shown = MlflowClient(tracking_uri=named_driver(uri)), masked(uri)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        @wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            # Each kind of artifact storage has exceptions of its own, such as boto's.
            errors = Exception if name in ARTIFACT_METHODS else mlflow_errors()
            try:
                return method(*args, **kwargs)
            except errors as error:
                raise StoreError(self._shown, first_line(error), getattr(error, "error_code", None)) from None

        return call


def named_driver(uri: str) -> str:
    """Return a store's URI for MLflow: that of a SQLite file names its driver.

    Without it MLflow would create the folder that the URI's path names if nothing in it is decoded.
    """
    return f"sqlite+pysqlite:///{uri.removeprefix(PREFIX)}" if uri.startswith(PREFIX) else uri


def mlflow_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions of MLflow's client: a refused value, an unreachable server, or a reply that is not MLflow's."""
    from google.protobuf.json_format import ParseError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return (MlflowException, SQLAlchemyError, OSError, HTTPException, ParseError)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message without secrets, since MLflow's messages contain whole URIs."""
    message = error.reason if isinstance(error, StoreError) else str(error).strip() or type(error).__name__
    return masked(message.splitlines()[0])
