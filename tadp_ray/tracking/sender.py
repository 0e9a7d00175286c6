"""Ships journals to MLflow, in the background and without ever holding up a training step."""

import logging
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

LONGEST_WAIT = 30.0


class Sender:
    """A thread that follows journals and keeps their runs in MLflow up to date.

    The journals are the record of truth; MLflow is a view of them. While MLflow is away the journals grow, and
    everything is sent when it is back. Nothing ends the thread but `close`: a bug of ours is told, kept as a traceback
    beside the journal, and tried again from the journal's beginning.
    """

    def __init__(
        self,
        store: Store,
        sources: Sequence[RunSpec],
        *,
        period: float = 5.0,
        tell: Callable[[str], None] = log.warning,
    ) -> None:
        self._store, self._sources, self._period, self._tell = store, sources, period, tell
        self._told: set[str] = set()
        for source in sources:
            source.save()
        self._runs = [JournalRun(store, source, self._say_once) for source in sources]
        self._broken: set[int] = set()
        self._trouble = ""
        self._closing = threading.Event()
        self._deadline = float("inf")
        self._thread = threading.Thread(target=self._follow, name="mlflow-sender", daemon=True)
        self._thread.start()

    def close(self, timeout: float) -> int:
        """Send what is left, for at most `timeout` seconds; what is unfinished is marked KILLED.

        Returns:
            How many journal values and state changes MLflow does not hold; `flush` or the same command sends them.
        """
        self._deadline = time.monotonic() + timeout
        self._closing.set()
        self._thread.join(timeout)
        return sum(max(run.unsent, number in self._broken) for number, run in enumerate(self._runs))

    @property
    def error(self) -> str:
        """What keeps records from MLflow, in one line."""
        return self._trouble or ("a bug, told above" if self._broken else "it is too slow")

    def _follow(self) -> None:
        wait = self._period
        while not self._closing.wait(wait):
            wait = self._period if self._sync() and not self._broken else min(2 * wait, LONGEST_WAIT)
        while not self._sync() and time.monotonic() < self._deadline:
            time.sleep(min(self._period, 1.0))

    def _sync(self) -> bool:
        """One round over all journals; False if MLflow did not take everything that could be sent."""
        trouble, broken = "", set()
        for number, run in enumerate(self._runs):
            if time.monotonic() > self._deadline:
                return False
            try:
                if self._closing.is_set():
                    run.stop()
                run.sync()
            except (UserError, OSError) as error:
                run.reset()
                trouble = first_line(error)
            except Exception as error:
                broken.add(number)
                self._break(number, error)
        self._broken = broken
        if trouble and not self._trouble:
            self._say(
                f"MLflow at {self._store.shown} does not take records ({trouble}); "
                "training goes on, they are kept in the journals and sent when it is back"
            )
        elif self._trouble and not trouble:
            self._say(f"MLflow at {self._store.shown} is back; all records so far are sent")
        self._trouble = trouble
        return not trouble

    def _break(self, number: int, error: Exception) -> None:
        """Tell of a bug, and begin with its journal anew."""
        source = self._sources[number]
        self._runs[number] = JournalRun(self._store, source, self._say_once)
        path = source.folder / SENDER_ERROR
        with suppress(OSError):
            write_text(path, masked("".join(traceback.format_exception(error))))
        self._say_once(
            f"a bug keeps {source.experiment}, {source.name} from MLflow ({type(error).__name__}: {first_line(error)}); "
            f"training goes on, and it is tried again; {path} tells where"
        )

    def _say_once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._say(text)

    def _say(self, text: str) -> None:
        # A terminal that was closed, or whose program broke, is no reason to keep numbers back.
        with suppress(Exception):
            self._tell(text)


@contextmanager
def synced(store: Store, source: RunSpec) -> Iterator[None]:
    """Ship one journal to MLflow for as long as the block lasts."""
    sender = Sender(store, [source])
    try:
        yield
    finally:
        if unsent := sender.close(timeout=60):
            log.warning(
                "MLflow at %s lacks %d records (%s), which are kept; `tadp-ray tracking flush %s` sends them",
                store.shown,
                unsent,
                sender.error,
                source.folder,
            )


def replay(store: Store, source: RunSpec) -> tuple[str, int]:
    """Send a journal that nobody writes any more; a training without an end was interrupted.

    Returns: the run's status, and how many values and state changes MLflow did not hold.

    Raises:
        UserError: MLflow does not take them.
    """
    source.save()
    run = JournalRun(store, source)
    try:
        run.stop()
        return run.status, run.sync()
    except (StoreError, OSError) as error:
        raise UserError(f"MLflow at {store.shown} does not take records ({first_line(error)}): mend it first") from None
