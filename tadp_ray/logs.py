"""Logging: one logger per module, shown on standard error from a level on."""

import logging
import os
import sys
from contextlib import suppress
from typing import Literal, get_args

from tadp_ray.addresses import masked

LogLevel = Literal["debug", "info", "warning", "error"]
LEVEL = "TADP_RAY_LOG_LEVEL"
"""Environment variable with the level, which child processes inherit."""
PLAIN = "%(message)s"
"""Format of warnings and errors."""
FULL = "%(asctime)s %(levelname)s %(name)s: %(message)s"
PACKAGE = logging.getLogger("tadp_ray")


class StderrHandler(logging.Handler):
    """Writes to the current standard error, without secrets; ignores a closed one."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        text = masked(self.format(record))
        if sys.stderr is not None:
            with suppress(OSError, ValueError):
                print(text, file=sys.stderr, flush=True)


def show_log(level: LogLevel) -> None:
    """Show this package's messages from a level on, in this process and in child processes."""
    os.environ[LEVEL] = level
    _show(level)


def log_level() -> LogLevel:
    """Return the level from which on messages are shown; `error` if a program shows even fewer."""
    levels: tuple[LogLevel, ...] = get_args(LogLevel)
    return next((level for level in levels if PACKAGE.isEnabledFor(logging.getLevelName(level.upper()))), "error")


def start_log() -> None:
    """Show messages from the level in the environment, else from `warning`. Called at import."""
    requested = os.environ.get(LEVEL, "").strip().lower()
    PACKAGE.addHandler(StderrHandler())
    # A program that configures logging itself would show every message twice.
    PACKAGE.propagate = False
    _show(requested if requested in get_args(LogLevel) else "warning")
    if requested not in ("", *get_args(LogLevel)):
        PACKAGE.warning(
            "%s=%s: expected one of %s; warnings are shown", LEVEL, requested, ", ".join(get_args(LogLevel))
        )


def _show(level: str) -> None:
    PACKAGE.setLevel(level.upper())
    for handler in PACKAGE.handlers:
        if isinstance(handler, StderrHandler):
            handler.setFormatter(logging.Formatter(FULL if level in ("debug", "info") else PLAIN))
