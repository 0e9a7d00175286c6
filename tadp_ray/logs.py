"""What is logged: one logger a module, all of them shown on standard error from a level on."""

import logging
import os
import sys
from contextlib import suppress
from typing import Literal, get_args

from tadp_ray.addresses import masked

LogLevel = Literal["debug", "info", "warning", "error"]
LEVEL = "TADP_RAY_LOG_LEVEL"
"""Variable of the environment that holds the level; processes that a command starts read it there."""
PLAIN = "%(message)s"
"""What is shown by default: warnings and errors, which stand between a command's answers."""
FULL = "%(asctime)s %(levelname)s %(name)s: %(message)s"
PACKAGE = logging.getLogger("tadp_ray")


class StderrHandler(logging.Handler):
    """Writes to what is standard error at the moment, without secrets; a closed or broken one is passed over."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        text = masked(self.format(record))
        if sys.stderr is not None:
            with suppress(OSError, ValueError):
                print(text, file=sys.stderr, flush=True)


def show_log(level: LogLevel) -> None:
    """Show from now on what this package logs at a level and above it, here and in processes that are started later."""
    os.environ[LEVEL] = level
    _show(level)


def log_level() -> LogLevel:
    """The level from which on messages are shown in this process; error, too, where a program shows less than errors."""
    levels: tuple[LogLevel, ...] = get_args(LogLevel)
    return next((level for level in levels if PACKAGE.isEnabledFor(logging.getLevelName(level.upper()))), "error")


def start_log() -> None:
    """Begin to show what is logged, from the level on that the environment names, else warnings; done at import."""
    asked = os.environ.get(LEVEL, "").strip().lower()
    PACKAGE.addHandler(StderrHandler())
    # A program that has set up logging for itself would show everything a second time.
    PACKAGE.propagate = False
    _show(asked if asked in get_args(LogLevel) else "warning")
    if asked not in ("", *get_args(LogLevel)):
        PACKAGE.warning("%s=%s: expected one of %s; warnings are shown", LEVEL, asked, ", ".join(get_args(LogLevel)))


def _show(level: str) -> None:
    PACKAGE.setLevel(level.upper())
    for handler in PACKAGE.handlers:
        if isinstance(handler, StderrHandler):
            handler.setFormatter(logging.Formatter(FULL if level in ("debug", "info") else PLAIN))
