"""Sends journals to MLflow in the background, without delaying training."""

import logging
import shlex
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from tadp_ray.addresses import masked
from tadp_ray.errors import UserError
from tadp_ray.files import write_text
from tadp_ray.layout import SENDER_ERROR
from tadp_ray.tracking.client import StoreError, first_line
from tadp_ray.tracking.journal_run import JournalRun
from tadp_ray.tracking.run_spec import RunSpec
from tadp_ray.tracking.store import Store

log = logging.getLogger(__name__)

MAX_WAIT = 30.0


class Sender:
    """A thread that reads journals and keeps their MLflow runs up to date.

    The journals are the source of truth, and MLflow is a view of them. While MLflow is unreachable the journals grow, and all
    records are sent when it is back. Only `close` ends the thread: a bug is logged, its traceback is written beside the
    journal, and the journal is tried again from its start.
    """

    def __init__(
        self,
        store: Store,
        sources: Sequence[RunSpec],
        *,
        period: float = 5.0,
        warn: Callable[[str], None] = log.warning,
    ) -> None:
        self._store, self._sources, self._period, self._warn = store, sources, period, warn
        self._warned: set[str] = set()
        for source in sources:
            source.save()
        self._runs = [JournalRun(store, source, self._warn_once) for source in sources]
        self._broken: set[int] = set()
        self._problem = ""
        self._closing = threading.Event()
        self._deadline = float("inf")
        self._thread = threading.Thread(target=self._follow, name="mlflow-sender", daemon=True)
        self._thread.start()

    def close(self, timeout: float) -> int:
        """Send the remaining records within `timeout` seconds, and mark unfinished runs as KILLED.

        Returns: the number of values and status changes that MLflow does not hold; `flush` or the same command sends them.
        """
        self._deadline = time.monotonic() + timeout
        self._closing.set()
        self._thread.join(timeout)
        return sum(max(run.unsent, number in self._broken) for number, run in enumerate(self._runs))

    @property
    def error(self) -> str:
        """Why records were not sent, in one line."""
        return self._problem or ("a bug, see above" if self._broken else "it is too slow")

    def _follow(self) -> None:
        wait = self._period
        while not self._closing.wait(wait):
            wait = self._period if self._sync() and not self._broken else min(2 * wait, MAX_WAIT)
        while not self._sync() and time.monotonic() < self._deadline:
            time.sleep(min(self._period, 1.0))

    def _sync(self) -> bool:
        """Sync all journals once; return False if MLflow failed."""
        problem, broken = "", set()
        for number, run in enumerate(self._runs):
            if time.monotonic() > self._deadline:
                return False
            try:
                if self._closing.is_set():
                    run.stop()
                run.sync()
            except (UserError, OSError) as error:
                run.reset()
                problem = first_line(error)
            except Exception as error:
                broken.add(number)
                self._break(number, error)
        self._broken = broken
        if problem and not self._problem:
            self._warn_safely(
                f"MLflow at {self._store.safe_uri} does not accept records ({problem}); "
                "training continues, the journals keep them and they are sent when it is back"
            )
        elif self._problem and not problem:
            self._warn_safely(f"MLflow at {self._store.safe_uri} is back; all records so far were sent")
        self._problem = problem
        return not problem

    def _break(self, number: int, error: Exception) -> None:
        """Report a bug, and start again with the journal."""
        source = self._sources[number]
        self._runs[number] = JournalRun(self._store, source, self._warn_once)
        path = source.folder / SENDER_ERROR
        with suppress(OSError):
            write_text(path, masked("".join(traceback.format_exception(error))))
        self._warn_once(
            f"a bug keeps {source.experiment}, {source.name} from MLflow ({type(error).__name__}: {first_line(error)}); "
            f"training continues, and it is tried again; traceback: {path}"
        )

    def _warn_once(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            self._warn_safely(text)

    def _warn_safely(self, text: str) -> None:
        # A closed terminal must not stop the sender.
        with suppress(Exception):
            self._warn(text)


@contextmanager
def synced(store: Store, source: RunSpec) -> Iterator[None]:
    """Send one journal to MLflow during the block."""
    sender = Sender(store, [source])
    try:
        yield
    finally:
        if unsent := sender.close(timeout=60):
            log.warning(
                "MLflow at %s lacks %d records (%s), which the journal keeps; `tadp-ray tracking flush %s` sends them",
                store.safe_uri,
                unsent,
                sender.error,
                shlex.quote(str(source.folder)),
            )


def replay(store: Store, source: RunSpec) -> tuple[str, int]:
    """Send a journal that is no longer written; a training without an end is marked as KILLED.

    Returns: the run's status, and the number of values and status changes sent.

    Raises:
        UserError: MLflow does not accept them.
    """
    source.save()
    run = JournalRun(store, source)
    try:
        run.stop()
        return run.status, run.sync()
    except (StoreError, OSError) as error:
        raise UserError(
            f"MLflow at {store.safe_uri} does not accept records ({first_line(error)}): fix it first"
        ) from None
