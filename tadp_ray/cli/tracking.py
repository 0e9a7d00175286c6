"""What MLflow was told, and what it still has to be told."""

from pathlib import Path
from typing import Annotated

import typer

from tadp_ray.cli.common import Commands, TrackingOption, exit_on_user_error, say
from tadp_ray.layout import STORAGE

app = Commands(help="Journals and MLflow.", no_args_is_help=True)


@app.callback()
def tracking() -> None:
    """Journals and MLflow."""


@app.command()
def flush(
    storage: Annotated[Path, typer.Argument(help="The folder that journals lie below.")] = Path(STORAGE),
    tracking_uri: TrackingOption = None,
) -> None:
    """Send MLflow what it does not hold of the journals of trainings: after it was away, or a command was killed.

    Can be repeated: nothing is sent twice. A training that has no end is marked KILLED; its own command goes on with it.
    """
    with exit_on_user_error():
        from tadp_ray.tracking.flush import flush as send
        from tadp_ray.tracking.store import open_store

        store = open_store(tracking_uri)
        send(store, storage, say)
