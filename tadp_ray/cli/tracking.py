"""Journals and MLflow."""

from pathlib import Path
from typing import Annotated

import typer

from tadp_ray.cli.common import Commands, TrackingOption, say
from tadp_ray.layout import STORAGE

app = Commands(help="Journals and MLflow.", no_args_is_help=True)


@app.callback()
def tracking() -> None:
    """Journals and MLflow."""


@app.command()
def flush(
    storage: Annotated[Path, typer.Argument(help="Folder with journals, e.g. of compute.storage.")] = Path(STORAGE),
    tracking_uri: TrackingOption = None,
) -> None:
    """Send records that MLflow does not hold, for example after it was unreachable or a command was killed.

    It can be repeated: nothing is sent twice. An unfinished training is marked as KILLED; its own command resumes it.
    """
    from tadp_ray.tracking.flush import flush as send
    from tadp_ray.tracking.store import open_store

    store = open_store(tracking_uri)
    send(store, storage, say)
