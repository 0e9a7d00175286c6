"""What the commands share: options, how they print, and how they tell what is wrong."""

import functools
import inspect
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from tadp_ray.cli.streams import lasting
from tadp_ray.config.classes import misnamed
from tadp_ray.config.shipped import shipped
from tadp_ray.errors import UserError
from tadp_ray.files import read_lines
from tadp_ray.logs import LEVEL, LogLevel, log_level, show_log
from tadp_ray.network import spare_proxy

# Paths, titles and captions hold brackets and colons of their own: nothing that is printed is read as rich's markup.
console = Console(markup=False, highlight=False, emoji=False)
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
StrictOption = Annotated[
    bool,
    typer.Option(
        "--strict-code",
        help="Train again what other code of this package, or other versions of what trains, have trained.",
    ),
]
JSONOption = Annotated[bool, typer.Option("--json", help="Print the figures for programs.")]
DEBUG = inspect.Parameter(
    "debug",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[
        bool,
        typer.Option("--debug", envvar="TADP_RAY_DEBUG", help="Show whole tracebacks, and what is logged, on stderr."),
    ],
)
LOG_LEVEL = inspect.Parameter(
    "log_level",
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[
        LogLevel | None,
        typer.Option(
            case_sensitive=False,
            help="From which level on messages are shown on stderr.",
            show_default=f"debug with --debug, else {LEVEL}, or warning",
        ),
    ],
)
initial_level = log_level()
"""From which level on this process has shown messages before any command."""
debugging = False
"""Whether this process shows the traceback of what the user must mend, too."""


class Commands(typer.Typer):
    """A group of commands, each of which takes --debug and --log-level beside its own options."""

    def command(self, *names: Any, **settings: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Register a function as a command."""
        register = super().command(*names, **settings)

        def add(function: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(function)
            def run(*words: Any, debug: bool, log_level: LogLevel | None, **options: Any) -> Any:
                global debugging
                debugging = debug
                show_log(log_level or ("debug" if debug else initial_level))
                return function(*words, **options)

            signature = inspect.signature(function, eval_str=True)
            run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), DEBUG, LOG_LEVEL])
            common = {parameter.name: parameter.annotation for parameter in (DEBUG, LOG_LEVEL)}
            run.__annotations__ = {**function.__annotations__, **common}
            register(run)
            return function

        return add


def say(text: object, style: str | None = None) -> None:
    """Print a line as it stands, however long, for people and for programs."""
    console.print(str(text), style=style, soft_wrap=True)


@contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Turn what the user must mend into a message, and an interruption into a promise. A bug shows its traceback."""
    # Schedulers and container engines stop a program with SIGTERM, a terminal that closes with SIGHUP: it is to end as
    # cleanly as with Ctrl-C. What was started with nohup goes on.
    signal.signal(signal.SIGTERM, interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, interrupt)
    spare_proxy()
    with lasting():
        aside = Console(stderr=True, soft_wrap=True, highlight=False)
        try:
            yield
        except UserError as error:
            if debugging:
                raise
            aside.print(Text.assemble(("error: ", "bold red"), str(error)))
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            aside.print("stopped; run the same command again to resume")
            raise typer.Exit(130) from None


def interrupt(number: int, frame: object) -> None:
    """End as Ctrl-C does; the same signal again does not disturb the ending."""
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def names_of(kind: str) -> Callable[[str], list[str]]:
    """What completes the names of shipped files of a kind in a shell; paths are completed by the shell itself."""
    return lambda incomplete: [name for name in shipped(kind) if name.startswith(incomplete)]


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
