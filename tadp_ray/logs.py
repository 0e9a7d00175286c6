"""What is said on standard error: by a command, and by the processes that it starts.

What is logged is for whoever asks for it.
"""

import logging
import os
import sys
from contextlib import suppress

from tadp_ray.addresses import masked

DEBUGGING = "TADP_RAY_DEBUG"
"""Variable of the environment that asks for it, as --debug does."""


def is_asked_for() -> bool:
    """Whether the environment asks for it, in the words that commands take for yes."""
    return os.environ.get(DEBUGGING, "").strip().lower() in ("1", "true", "t", "yes", "y", "on")


def show_log() -> None:
    """Show on standard error what this package logs."""
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s")
    logging.getLogger("tadp_ray").setLevel(logging.DEBUG)


def to_console(text: str) -> None:
    """Tell the user something beside the progress display; where nobody can hear it any more, it is not told."""
    with suppress(OSError, ValueError):
        print(masked(text), file=sys.stderr, flush=True)
