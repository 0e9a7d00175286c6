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
    """Call a function in a thread during the block, `seconds` after the previous call ended.

    A failed call is repeated, too: without the thread, what it does would silently not be done for the rest of the block. Errors
    that are not `ignored` are told, each kind once.
    """
    done, told = threading.Event(), set[type[Exception]]()

    def repeat() -> None:
        while not done.wait(seconds):
            try:
                function()
            except Exception as error:
                kind = type(error)
                if not isinstance(error, ignored) and kind not in told:
                    told.add(kind)
                    log.warning(
                        "in the background: %s: %s; tried again every %g seconds", kind.__name__, error, seconds
                    )
                log.debug("failed; retried in %g seconds", seconds, exc_info=True)

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
