"""What the commands share: options, printing and error handling."""

import errno
import functools
import inspect
import json
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from tadp_ray.cli.streams import robust_output, takes_all
from tadp_ray.config.shipped import shipped
from tadp_ray.config.vocabulary import Scale
from tadp_ray.errors import UserError, said_as
from tadp_ray.files import FULL, finite
from tadp_ray.logs import LEVEL, LogLevel, log_level, show_log
from tadp_ray.network import bypass_proxy

if TYPE_CHECKING:
    from tadp_ray.tracking.store import Store

F = TypeVar("F", bound=Callable[..., Any])
# Paths, titles and captions contain brackets and colons, which rich must not read as markup.
console = Console(markup=False, highlight=False, emoji=False)


def store_to_log(log: bool, tracking_uri: str | None) -> "Store | None":
    """Return the store of a command with --log; None without that option.

    Raises:
        UserError: a store is named, but nothing is to be logged; or see `open_store`.
    """
    if tracking_uri and not log:
        raise UserError("--tracking-uri: nothing is logged without --log; add it, or leave --tracking-uri out")
    if not log:
        return None
    from tadp_ray.tracking.store import open_store

    return open_store(tracking_uri)


def names_of(kind: str) -> Callable[[str], list[str]]:
    """Return the shell completion for names of shipped files of a kind; the shell itself completes paths."""
    return lambda incomplete: [name for name in shipped(kind) if name.startswith(incomplete)]


ChangesOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a key of the recipe: key=value, e.g. data.root=PHOTOS. Repeatable."),
]
ScaleOption = Annotated[Scale, typer.Option(help="pocket runs on a laptop; paper needs GPUs, weights and data.")]
RecipeOption = Annotated[
    Path | None,
    typer.Option(
        help="Recipe to use instead of the experiment's own: a file or a shipped name.",
        autocompletion=names_of("recipes"),
    ),
]
TrackingOption = Annotated[
    str | None,
    typer.Option(
        help="MLflow store: sqlite:///FILE, or the URL of a server or a database.",
        show_default="MLFLOW_TRACKING_URI, or ./mlflow.db",
    ),
]
DeviceOption = Annotated[
    str | None, typer.Option(help="Device: cpu, cuda, cuda:1 ...", show_default="cuda if trained on a GPU, else cpu")
]
AddressOption = Annotated[
    str | None, typer.Option(help="Address of the Ray cluster to join.", show_default="RAY_ADDRESS, or a local cluster")
]
LogOption = Annotated[bool, typer.Option("--log", help="Also log the result to MLflow, so that `report` includes it.")]
StrictOption = Annotated[
    bool,
    typer.Option(
        "--strict-code",
        help="Retrain cells that were trained with different code or different package versions (e.g. of torch).",
    ),
]
JSONOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DEBUG = inspect.Parameter(
    "debug",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[
        bool,
        typer.Option("--debug", envvar="TADP_RAY_DEBUG", help="Show debug messages and tracebacks on stderr."),
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
            help="Minimum level of the messages on stderr.",
            show_default=f"debug with --debug, otherwise {LEVEL} or warning",
        ),
    ],
)
REFUSED = (
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG),
)
ENDING_SECONDS = 30.0
"""How long a command may take to end before the same signal counts again."""
initial_level = log_level()
"""The log level of this process before any command."""
debugging = False
"""Whether user errors show their traceback, too."""


class Commands(typer.Typer):
    """A group of commands. Each has the options --debug and --log-level, and ends with `exit_on_user_error`."""

    def command(self, *names: Any, **settings: Any) -> Callable[[F], F]:
        """Register a function as a command."""
        register = super().command(*names, **settings)

        def add(function: F) -> F:
            signature = inspect.signature(function, eval_str=True)
            words_of = options_for_keys([*signature.parameters])

            @functools.wraps(function)
            def run(*words: Any, debug: bool, log_level: LogLevel | None, **options: Any) -> Any:
                global debugging
                debugging = debug
                show_log(log_level or ("debug" if debug else initial_level))
                with exit_on_user_error(), said_as(words_of):
                    return function(*words, **options)

            common = {parameter.name: parameter.annotation for parameter in (DEBUG, LOG_LEVEL)}
            shown: Any = run  # Any, since type checkers know no signature of a function
            shown.__signature__ = signature.replace(parameters=[*signature.parameters.values(), DEBUG, LOG_LEVEL])
            shown.__annotations__ = {**function.__annotations__, **common}
            register(shown)
            return function

        return add


def options_for_keys(options: Collection[str]) -> dict[str, str]:
    """Return what errors of a command without --set call a recipe's keys (`said_as`): its options that stand for them."""
    if "changes" in options:
        return {}
    weights = next((name for name in ("weights", "start") if name in options), None)
    words = dict.fromkeys(("--set model.weights=", "model.weights="), f"--{weights} ") if weights else {}
    words |= {"model.backbone: ": "--backbone "} if {"weights", "backbone"} <= {*options} else {}
    words |= {"name it with --set data.root=FOLDER": "put it there again, or a link to it"}
    return words | ({"try 'cpu'": "try --device cpu"} if "device" in options else {})


def say(text: object, style: str | None = None) -> None:
    """Print a line without wrapping or markup."""
    console.print(str(text), style=style, soft_wrap=True)


def show(record: object, lines: Iterable[object], as_json: bool) -> None:
    """Print a record as JSON, or its lines."""
    if as_json:
        # Escaped where letters would be spelled out: those would be other values, and quotation marks would end a text.
        print(json.dumps(finite(record), indent=1, ensure_ascii=not takes_all(sys.stdout), allow_nan=False))
    else:
        for line in lines:
            say(line)


@contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Turn user errors and interruptions into a message and an exit code. A bug shows its traceback."""
    # Schedulers and container engines stop a program with SIGTERM, a closing terminal with SIGHUP: both end as cleanly as
    # Ctrl-C. A program started with nohup ignores SIGHUP.
    signal.signal(signal.SIGTERM, interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, interrupt)
    bypass_proxy()
    with robust_output():
        stderr = Console(stderr=True, soft_wrap=True, highlight=False)
        try:
            yield
        except UserError as error:
            if debugging:
                raise
            stderr.print(Text.assemble(("error: ", "bold red"), str(error)))
            raise typer.Exit(2) from None
        except OSError as error:
            if debugging or not is_of_a_file(error):
                raise
            place = f"{error.filename}: " if error.filename else ""
            stderr.print(Text.assemble(("error: ", "bold red"), f"{place}{error.strerror}"))
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            stderr.print("stopped; run the same command again to resume")
            raise typer.Exit(130) from None


def is_of_a_file(error: OSError) -> bool:
    """Return whether an error is about a file or a disk that the user can fix."""
    return error.errno in FULL or (error.errno in REFUSED and error.filename is not None)


class PluginGroup(TyperGroup):
    """A group with its own commands and registered ones. Plug-ins are loaded only where its own do not suffice."""

    def registered(self) -> dict[str, Any]:
        """Return the registered commands by name."""
        raise NotImplementedError

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands, registered ones last."""
        with exit_on_user_error():
            # Its own come first, and are not replaced.
            self.commands = {**self.commands, **self.registered(), **self.commands}
        return super().list_commands(ctx)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command by its name."""
        if cmd_name not in self.commands:
            self.list_commands(ctx)
        return super().get_command(ctx, cmd_name)


def interrupt(number: int, frame: object) -> None:
    """End as with Ctrl-C, which repetitions of the signal do not disturb.

    Compiled code sometimes drops the exception, so that the command goes on: a later signal counts again.
    """
    came = time.monotonic()

    def repeated(number: int, frame: object) -> None:
        if time.monotonic() > came + ENDING_SECONDS:
            interrupt(number, frame)

    signal.signal(number, repeated)
    raise KeyboardInterrupt


def check_png(option: str, path: Path) -> None:
    """Check that a picture's name ends in .png.

    Raises:
        UserError: it does not; names the option.
    """
    if path.suffix != ".png":
        raise UserError(f"{option} {path}: is a PNG image; let its name end in .png, e.g. shown.png")
