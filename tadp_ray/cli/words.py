"""What the commands share: options, how they print, and how they tell what is wrong."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from tadp_ray.config.classes import misnamed
from tadp_ray.errors import UserError
from tadp_ray.files import read_lines

console = Console()
ChangesOption = Annotated[
    list[str] | None, typer.Option("--set", help="Change the recipe: key=value, e.g. data.root=PHOTOS.")
]
TrackingOption = Annotated[
    str | None,
    typer.Option(
        help="MLflow store: sqlite:///FILE, a server, a database.", show_default="MLFLOW_TRACKING_URI, or ./mlflow.db"
    ),
]
AddressOption = Annotated[
    str | None, typer.Option(help="Ray cluster to join.", show_default="RAY_ADDRESS, or a local one")
]
KeepOption = Annotated[
    str | None,
    typer.Option(
        "--tracking-uri",
        help="MLflow store to keep the outcome in, where `report` finds it: sqlite:///FILE, a server, a database.",
        show_default="files alone",
    ),
]
JSONOption = Annotated[bool, typer.Option("--json", help="Print the figures for programs.")]


@contextmanager
def told() -> Iterator[None]:
    """Turn what the user must mend into a message, and an interruption into a promise."""
    # Schedulers and container engines stop a program with SIGTERM: it is to end as cleanly as with Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    aside = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        yield
    except UserError as error:
        aside.print(Text.assemble(("error: ", "bold red"), str(error)))
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        aside.print("stopped; the same command goes on from here")
        raise typer.Exit(130) from None


def parse_classes(text: str) -> list[str]:
    """Class names of `a,b,c`, or of a file with one a line.

    Raises:
        UserError: it is neither, or names are empty, strange or too alike; each is named.
    """
    if "," in text:
        names = [part.strip() for part in text.removesuffix(",").split(",")]
    elif os.path.isfile(text):
        names = read_lines(Path(text))
    else:
        raise UserError(f"--classes {text}: neither names apart by commas nor a file (one name: 'name,')")
    if problems := misnamed(names) if names else ["no name at all"]:
        raise UserError("\n".join(f"--classes {text}: {problem}" for problem in problems[:10]))
    return names
