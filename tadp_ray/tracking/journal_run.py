"""Sends a journal to its MLflow run, each value once."""

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from mlflow.entities import Metric, Param, RunTag

from tadp_ray.layout import JOURNAL, LEARNED, MODEL, PER_IMAGE, PREDICTED, SAMPLES, TRACEBACK, WORKER_LOG
from tadp_ray.tracking.client import StoreError
from tadp_ray.tracking.names import MAX_KEY_LENGTH, clean, decode, encode, flatten
from tadp_ray.tracking.query import WEIGHTS, as_logged, search_all
from tadp_ray.tracking.run_spec import PARENT, TAG_LENGTH, RunSpec
from tadp_ray.tracking.store import Store
from tadp_ray.training.journal import JournalReader, milliseconds
from tadp_ray.training.provenance import merged

log = logging.getLogger(__name__)

T = TypeVar("T")
METRICS_PER_BATCH = 1000
FILES = (PREDICTED, PER_IMAGE, SAMPLES, LEARNED)
EVIDENCE = (TRACEBACK, WORKER_LOG)
"""Files about a failure."""
ERROR = "tadp.error"
STATUS = {"started": "RUNNING", "metrics": "RUNNING", "finished": "FINISHED", "failed": "FAILED"}


class JournalRun:
    """Sends one journal to its own run, which is identified by its start time, that of the journal.

    A value keeps the time of its first journal record, and repeated steps of a restarted training are skipped. Only the
    `finished` record may correct a value, and it is the last. MLflow's database refuses a second metric with equal key, step,
    time and value, so a batch whose reply was lost cannot be stored twice.

    Values that MLflow refuses are reported once, stay in the journal and are not sent again; all others are sent.
    """

    def __init__(self, store: Store, source: RunSpec, warn: Callable[[str], None] = log.warning) -> None:
        self._source, self._store, self._client, self._warn = source, store, store.client, warn
        self._reader = JournalReader(source.folder / JOURNAL, source.fingerprint)
        self._metrics: dict[tuple[str, int], Metric] = {}
        self._final: set[tuple[str, int]] = set()
        self._sent: dict[tuple[str, int], float] = {}
        self._refused: set[Any] = set()
        self._run: str | None = None
        self._clean = True
        self._start: int | None = None
        self._clock = 0
        self._status = self._sent_status = ("RUNNING", 0, "")
        self._provenance: dict[str, str] = {}
        self._sent_provenance: dict[str, str] = {}

    def sync(self) -> int:
        """Send the records that MLflow does not hold.

        Returns: the number of values and status changes sent.

        Raises:
            UserError: MLflow failed; call `reset` and try again later.
        """
        self._store.check()
        self._read()
        if self._clean:
            return 0
        try:
            return self._sync()
        except StoreError as error:
            if not error.refused or self._run is None or self._active():
                raise
        # The run was deleted; create another one if its experiment still exists.
        self.reset()
        return self._sync()

    def _sync(self) -> int:
        if self._run is None:
            self._attach()
        if self._provenance != self._sent_provenance:
            self._client.log_batch(self._run, tags=[RunTag(*pair) for pair in self._provenance.items()])
            self._sent_provenance = self._provenance
        pending = self._pending()
        count = 0
        for i in range(0, len(pending), METRICS_PER_BATCH):
            count += self._send_bisecting(pending[i : i + METRICS_PER_BATCH], self._send, lambda key: decode(key[0]))
        if self._status != self._sent_status:
            self._send_status(*self._status)
            count += 1
        self._clean = True
        return count

    def reset(self) -> None:
        """Forget what was sent, and ask MLflow again what it holds."""
        self._run = None
        self._clean = not self.started

    def stop(self) -> None:
        """Mark a training without an end as KILLED at the time of its last record."""
        self._read()
        if self._start is not None and self._status[0] == "RUNNING":
            self._status = ("KILLED", self._clock, "")
            self._clean = False

    @property
    def unsent(self) -> int:
        """The number of values and status changes, of the records read so far, that MLflow does not hold."""
        return 0 if self._clean else len(self._pending()) + (self._status != self._sent_status or self._run is None)

    @property
    def status(self) -> str:
        """RUNNING, FINISHED, FAILED or KILLED, from the journal."""
        return self._status[0]

    @property
    def started(self) -> bool:
        """Whether the journal has any record."""
        return self._start is not None

    def _pending(self) -> list[tuple[str, int]]:
        return [
            key
            for key, metric in list(self._metrics.items())
            if (key not in self._sent or (key in self._final and not same(metric.value, self._sent[key])))
            and key not in self._refused
        ]

    def _send(self, keys: Sequence[tuple[str, int]]) -> None:
        self._client.log_batch(self._run, metrics=[self._metrics[key] for key in keys])
        self._sent |= {key: self._metrics[key].value for key in keys}

    def _active(self) -> bool:
        return self._client.get_run(self._run).info.lifecycle_stage == "active"

    def _send_bisecting(
        self, items: Sequence[T], send: Callable[[Sequence[T]], object], name: Callable[[T], str]
    ) -> int:
        """Send items except those that MLflow refuses, found by bisection; return how many were sent."""
        try:
            send(items)
            return len(items)
        except StoreError as error:
            # A deleted run refuses everything.
            if not error.refused or not self._active():
                raise
            if len(items) == 1:
                self._refuse(items[0], name(items[0]), error)
                return 0
        middle = len(items) // 2
        return self._send_bisecting(items[:middle], send, name) + self._send_bisecting(items[middle:], send, name)

    def _refuse(self, item: Any, name: str, error: StoreError) -> None:
        if name not in self._refused:
            self._warn(
                f"MLflow at {self._store.safe_uri} refuses {name!r:.300} of {self._source.experiment}, {self._source.name} "
                f"({error.reason:.300}); it stays in {self._source.folder}, all others are sent"
            )
        self._refused |= {item, name}

    def _read(self) -> None:
        for record in self._reader.read():
            if record["type"] not in STATUS or self._status[0] == "FINISHED":
                continue
            self._clean = False
            # MLflow shows the value with the latest time, which must hold even if the clock is set back.
            self._clock = moment = max(milliseconds(record), self._clock + 1)
            if record["type"] == "started":
                provenance = record.get("provenance", {})
                self._provenance = provenance if self._start is None else merged(self._provenance, provenance)
            if self._start is None:
                self._start = moment
            for name, value in record.get("metrics", {}).items():
                key = (encode(name), record["step"])
                metric = Metric(key[0], value, moment, record["step"])
                if record["type"] == "finished":
                    self._metrics[key] = metric
                    self._final.add(key)
                else:
                    self._metrics.setdefault(key, metric)
            status = STATUS[record["type"]]
            self._status = (status, 0 if status == "RUNNING" else moment, clean(record.get("error", ""))[:TAG_LENGTH])

    def _attach(self) -> None:
        source = self._source
        mine = f"tags.`tadp.fingerprint` = '{source.fingerprint}' and attributes.start_time = {self._start}"
        if parent := source.tags.get(PARENT):
            mine += f" and tags.`{PARENT}` = '{parent}'"
        experiment = self._store.experiment_id(source.experiment)
        found = self._client.search_runs([experiment], mine, max_results=1)
        tags = {"tadp.fingerprint": source.fingerprint, **source.tags}
        tags = {key: clean(value) for key, value in tags.items()}
        run = (
            found[0]
            if found
            else self._client.create_run(
                experiment, self._start, tags, clean(source.short_name or source.name)[:MAX_KEY_LENGTH]
            )
        )
        self._run = run_id = run.info.run_id
        missing = [pair for pair in flatten(source.params).items() if pair[0] not in run.data.params]
        missing = [pair for pair in missing if pair not in self._refused]
        self._send_bisecting(missing, self._send_params, lambda pair: pair[0])
        if source.file not in {file.path for file in self._client.list_artifacts(run_id)}:
            self._client.log_dict(run_id, {**source.record, "provenance": self._provenance}, source.file)
        points = [m for key in run.data.metrics for m in self._client.get_metric_history(run_id, key)]
        points.sort(key=lambda point: point.timestamp)
        self._sent = {(point.key, point.step): as_logged(point.value) for point in points}
        status, ended, error = run.info.status, run.info.end_time, run.data.tags.get(ERROR, "")
        self._sent_status = (status, 0 if status == "RUNNING" else ended, error)
        self._sent_provenance = {key: run.data.tags.get(key, "") for key in self._provenance}

    def _send_params(self, pairs: Sequence[tuple[str, str]]) -> None:
        self._client.log_batch(self._run, params=[Param(key, value) for key, value in pairs])

    def _send_status(self, status: str, moment: int, error: str) -> None:
        if status == "RUNNING":
            self._client.update_run(self._run, status=status)
        else:
            self._upload(FILES if status == "FINISHED" else EVIDENCE if status == "FAILED" else ())
            if status == "FINISHED" and (self._source.folder / MODEL).is_file():
                tags = [RunTag(WEIGHTS, str(self._source.folder / MODEL))]
                self._client.log_batch(self._run, tags=tags)
            if error:
                self._client.set_tag(self._run, ERROR, error)
            elif ERROR in self._client.get_run(self._run).data.tags:
                self._client.delete_tag(self._run, ERROR)
            # Last, so that a run with status FINISHED is complete.
            self._client.set_terminated(self._run, status, moment)
        self._sent_status = self._status

    def _upload(self, names: Sequence[str]) -> None:
        for name in names:
            if (self._source.folder / name).is_file():
                self._client.log_artifact(self._run, str(self._source.folder / name))


def move_weights(store: Store, fingerprint: str, old: Path, new: Path) -> None:
    """Replace the path of a cell's weights in its runs."""
    for run in list(search_all(store, f"tags.`tadp.fingerprint` = '{fingerprint}'")):
        if run.data.tags.get(WEIGHTS) == str(old):
            store.client.set_tag(run.info.run_id, WEIGHTS, str(new))


def same(left: float, right: float) -> bool:
    """Return whether two values are equal or both NaN."""
    return left == right or (math.isnan(left) and math.isnan(right))
