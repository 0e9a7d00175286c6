"""Journals and MLflow."""

from pathlib import Path
from typing import Annotated

import typer

from tadp_ray.cli.common import Commands, TrackingOption, say
from tadp_ray.layout import STORAGE

app = Commands(help="Send missing records from journals to MLflow.", no_args_is_help=True)


@app.callback()
def tracking() -> None:
    """Send missing records from journals to MLflow."""


@app.command()
def flush(
    storage: Annotated[Path, typer.Argument(help="Folder with journals, e.g. the folder of compute.storage.")] = Path(
        STORAGE
    ),
    tracking_uri: TrackingOption = None,
) -> None:
    """Send records that MLflow does not have yet.

    Records may be missing after MLflow was unreachable or a command was killed. You can repeat this command: nothing is sent
    twice. Unfinished training runs are marked as KILLED. To resume one, repeat the command that started it.
    """
    from tadp_ray.tracking.flush import flush as send
    from tadp_ray.tracking.store import open_store

    store = open_store(tracking_uri)
    send(store, storage, say)
