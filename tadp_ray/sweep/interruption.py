"""Interrupts the main thread from one that watches what its work cannot do without."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tadp_ray.errors import UserError
from tadp_ray.sweep.periodic import run_periodically

CLEANUP_SECONDS = 90.0
"""Seconds that an interrupted block has to update MLflow and close files; if it then still waits, it is interrupted again."""


class Interruption(BaseException):
    """The work cannot go on. Not an Exception, so that no handler takes it for a cell's error."""


def require_main_thread() -> None:
    """Raise UserError in another thread: Python runs what a signal calls in the main thread alone."""
    if threading.current_thread() is not threading.main_thread():
        raise UserError(
            "trainings are stopped by signals, which only the main thread of a process receives: call this from the main thread, "
            "or in a process of its own"
        )


@contextmanager
def interrupted_if(
    trouble: Callable[[], str | None], seconds: float, ignored: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Run a block in the main thread; interrupt it when a function that is called periodically tells of trouble.

    Such blocks may be nested. The arguments are as for `run_periodically`.

    Raises:
        UserError: the trouble.
    """

    def interrupt(*_: object) -> None:
        raise Interruption

    def check() -> None:
        nonlocal told, last_signal
        told = told or trouble()
        if told and time.monotonic() - last_signal > CLEANUP_SECONDS:
            last_signal = time.monotonic()
            signal.pthread_kill(main, signal.SIGUSR2)

    told: str | None = None
    last_signal = float("-inf")
    main, before = threading.get_ident(), signal.signal(signal.SIGUSR2, interrupt)
    try:
        with run_periodically(seconds, check, ignored):
            yield
    except BaseException:
        # Ray's compiled code turns the interruption into another error. In an inner block, it may be the outer one's.
        if told is None:
            raise
        raise UserError(told) from None
    finally:
        signal.signal(signal.SIGUSR2, before)
