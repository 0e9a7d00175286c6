"""MLflow's client, all of whose failures are one kind of error."""

from collections.abc import Callable
from functools import wraps
from http.client import HTTPException
from typing import Any

from google.protobuf.json_format import ParseError
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from tadp_ray.addresses import masked
from tadp_ray.errors import UserError

LOST = (MlflowException, SQLAlchemyError, OSError, HTTPException, ParseError)
"""How MLflow fails: refused, away, or with an answer that is none of its own."""


class StoreError(UserError):
    """MLflow does not answer as it should, or refuses what it is sent."""

    def __init__(self, shown: str, said: str, code: str | None = None) -> None:
        super().__init__(
            f"MLflow at {shown} does not answer as it should ({said}): mend it, then run this again; what was trained "
            "is kept in the journals"
        )
        self.said = masked(said)
        """In MLflow's words."""
        self.code = code
        """MLflow's name of the kind of error."""

    @property
    def refused(self) -> bool:
        """Whether MLflow takes no such value, however often it is sent."""
        return self.code == "INVALID_PARAMETER_VALUE"


class Client:
    """MLflow's client; whatever fails in it is a `StoreError`."""

    def __init__(self, uri: str) -> None:
        self._client, self._shown = MlflowClient(tracking_uri=uri), masked(uri)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        @wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                return method(*args, **kwargs)
            except LOST as error:
                raise StoreError(self._shown, first_line(error), getattr(error, "error_code", None)) from None

        return call


def first_line(error: BaseException) -> str:
    """What an error says, in one line and without secrets; MLflow's own tell whole URIs."""
    said = error.said if isinstance(error, StoreError) else str(error).strip() or type(error).__name__
    return masked(said.splitlines()[0])
