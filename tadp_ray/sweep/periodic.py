"""Something that is done now and then, beside the work."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)


@contextmanager
def run_periodically(
    seconds: float, act: Callable[[], None], excused: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Call `act` in a thread of its own, each time so many seconds after the last; an excused error waits for the next time."""
    done = threading.Event()

    def repeat() -> None:
        while not done.wait(seconds):
            try:
                act()
            except excused:
                log.debug("put off to the next time", exc_info=True)

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
