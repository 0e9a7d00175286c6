"""What is logged is for whoever asks for it: on standard error of a command, and of the processes that it starts."""

import logging
import os

DEBUGGING = "TADP_RAY_DEBUG"
"""Variable of the environment that asks for it, as --debug does."""


def is_asked_for() -> bool:
    """Whether the environment asks for it, in the words that commands take for yes."""
    return os.environ.get(DEBUGGING, "").strip().lower() in ("1", "true", "t", "yes", "y", "on")


def show_log() -> None:
    """Show on standard error what this package logs."""
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s")
    logging.getLogger("tadp_ray").setLevel(logging.DEBUG)
