"""Ships journals to MLflow, in the background and without ever holding up a training step."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from mlflow.exceptions import MlflowException

from tadp_ray.errors import UserError
from tadp_ray.tracking.journal_run import JournalRun
from tadp_ray.tracking.source import Source
from tadp_ray.tracking.store import Store, first_line, to_console

LONGEST_WAIT = 30.0


class Sender:
    """A thread that follows journals and keeps their runs in MLflow up to date.

    The journals are the record of truth; MLflow is a view of them. While MLflow is away the journals grow, and
    everything is sent when it is back.
    """

    def __init__(
        self,
        store: Store,
        sources: Sequence[Source],
        *,
        period: float = 5.0,
        tell: Callable[[str], None] = to_console,
    ) -> None:
        self._store, self._period, self._tell = store, period, tell
        for source in sources:
            source.keep()
        self._runs = [JournalRun(store, source) for source in sources]
        self._trouble = False
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
        return sum(run.unsent for run in self._runs)

    def _follow(self) -> None:
        wait = self._period
        while not self._closing.wait(wait):
            wait = self._period if self._ship() else min(2 * wait, LONGEST_WAIT)
        for run in self._runs:
            run.stop()
        while not self._ship() and time.monotonic() < self._deadline:
            time.sleep(min(self._period, 1.0))

    def _ship(self) -> bool:
        """One round over all journals; False if MLflow did not take everything."""
        trouble: Exception | None = None
        for run in self._runs:
            if time.monotonic() > self._deadline:
                return False
            try:
                run.ship()
            except (MlflowException, OSError) as error:
                run.lose()
                trouble = error
        if trouble and not self._trouble:
            self._tell(
                f"MLflow at {self._store.shown} does not take records ({first_line(trouble)}); "
                "training goes on, they are kept in the journals and sent when it is back"
            )
        elif self._trouble and not trouble:
            self._tell(f"MLflow at {self._store.shown} is back; all records so far are sent")
        self._trouble = trouble is not None
        return not trouble


@contextmanager
def shipped(store: Store, source: Source) -> Iterator[None]:
    """Ship one journal to MLflow for as long as the block lasts."""
    sender = Sender(store, [source])
    try:
        yield
    finally:
        if unsent := sender.close(timeout=60):
            to_console(
                f"MLflow at {store.shown} is away: {unsent} records are kept; `tadp-ray tracking flush {source.folder}` "
                "sends them"
            )


def replay(store: Store, source: Source) -> tuple[str, int]:
    """Send a journal that nobody writes any more; a training without an end was interrupted.

    Returns: the run's status, and how many values and state changes MLflow did not hold.

    Raises:
        UserError: MLflow does not take them.
    """
    source.keep()
    run = JournalRun(store, source)
    try:
        run.stop()
        return run.status, run.ship()
    except (MlflowException, OSError) as error:
        raise UserError(f"MLflow at {store.shown} does not take records ({first_line(error)}): mend it first") from None
