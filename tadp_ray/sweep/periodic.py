"""Calls a function periodically in a background thread."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)


@contextmanager
def run_periodically(
    seconds: float, function: Callable[[], None], ignored: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Call a function in a thread during the block, `seconds` after the previous call ended; ignored errors are retried."""
    done = threading.Event()

    def repeat() -> None:
        while not done.wait(seconds):
            try:
                function()
            except ignored:
                log.debug("failed; retried in %g seconds", seconds, exc_info=True)

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
