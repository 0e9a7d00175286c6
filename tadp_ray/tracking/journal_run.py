"""A journal's run in MLflow: made or found again, filled from the journal, each value once."""

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from mlflow.entities import Metric, Param, RunTag

from tadp_ray.layout import JOURNAL, LEARNED, MODEL, PER_IMAGE, PREDICTED, SAMPLES, TRACEBACK, WORKER_LOG
from tadp_ray.tracking.client import StoreError
from tadp_ray.tracking.names import LONGEST, clean, decode, encode
from tadp_ray.tracking.query import WEIGHTS, as_logged, pages
from tadp_ray.tracking.run_spec import PARENT, TAG_LENGTH, RunSpec
from tadp_ray.tracking.store import Store
from tadp_ray.training.journal import JournalReader
from tadp_ray.training.provenance import merged

log = logging.getLogger(__name__)

T = TypeVar("T")
METRICS_PER_BATCH = 1000
PARAMS_PER_BATCH = 100
PARAM_LENGTH = 6000
FILES = (PREDICTED, PER_IMAGE, SAMPLES, LEARNED)
EVIDENCE = (TRACEBACK, WORKER_LOG)
"""Files that tell of a failure."""
ERROR = "tadp.error"
STATUS = {"started": "RUNNING", "metrics": "RUNNING", "finished": "FINISHED", "failed": "FAILED"}


class JournalRun:
    """Ships one journal to a run of its own, which begins when the journal does and is known by that.

    A value keeps the time of its first journal record, and what a restarted training repeats is skipped; only the
    finished record may correct a value, and nothing comes after it. MLflow's database refuses a second metric of equal
    key, step, time and value, so even a batch that arrived without its answer cannot be stored twice.

    What MLflow refuses by itself is told, stays in the journal, and is not sent again; the rest is sent.
    """

    def __init__(self, store: Store, source: RunSpec, tell: Callable[[str], None] = log.warning) -> None:
        self._source, self._store, self._client, self._say = source, store, store.client, tell
        self._tail = JournalReader(source.folder / JOURNAL, source.fingerprint)
        self._metrics: dict[tuple[str, int], Metric] = {}
        self._final: set[tuple[str, int]] = set()
        self._sent: dict[tuple[str, int], float] = {}
        self._refused: set[Any] = set()
        self._run: str | None = None
        self._clean = True
        self._began: int | None = None
        self._clock = 0
        self._state = self._told = ("RUNNING", 0, "")
        self._provenance: dict[str, str] = {}
        self._provenance_told: dict[str, str] = {}

    def sync(self) -> int:
        """Send what the journal holds and MLflow does not.

        Returns: how many values and state changes that were.

        Raises:
            UserError: MLflow did not take it; call `reset` and try again later.
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
        # Somebody deleted the run: another is made, where its experiment still is.
        self.reset()
        return self._sync()

    def _sync(self) -> int:
        if self._run is None:
            self._attach()
        if self._provenance != self._provenance_told:
            self._client.log_batch(self._run, tags=[RunTag(*pair) for pair in self._provenance.items()])
            self._provenance_told = self._provenance
        pending = self._pending()
        count = 0
        for i in range(0, len(pending), METRICS_PER_BATCH):
            count += self._offer(pending[i : i + METRICS_PER_BATCH], self._send, lambda place: decode(place[0]))
        if self._state != self._told:
            self._tell(*self._state)
            count += 1
        self._clean = True
        return count

    def reset(self) -> None:
        """Trust nothing that was sent: MLflow is asked again what it holds."""
        self._run = None
        self._clean = not self.begun

    def stop(self) -> None:
        """Note that a training without an end was interrupted, after its last sign of life."""
        self._read()
        if self._began is not None and self._state[0] == "RUNNING":
            self._state = ("KILLED", self._clock, "")
            self._clean = False

    @property
    def unsent(self) -> int:
        """Values and state changes that MLflow does not hold yet, of what was read so far."""
        return 0 if self._clean else len(self._pending()) + (self._state != self._told or self._run is None)

    @property
    def status(self) -> str:
        """RUNNING, FINISHED, FAILED or KILLED, as the journal says."""
        return self._state[0]

    @property
    def begun(self) -> bool:
        """Whether the journal holds anything."""
        return self._began is not None

    def _pending(self) -> list[tuple[str, int]]:
        return [
            key
            for key, metric in list(self._metrics.items())
            if (key not in self._sent or (key in self._final and not same(metric.value, self._sent[key])))
            and key not in self._refused
        ]

    def _send(self, places: Sequence[tuple[str, int]]) -> None:
        self._client.log_batch(self._run, metrics=[self._metrics[place] for place in places])
        self._sent |= {place: self._metrics[place].value for place in places}

    def _active(self) -> bool:
        return self._client.get_run(self._run).info.lifecycle_stage == "active"

    def _offer(self, items: Sequence[T], send: Callable[[Sequence[T]], object], name: Callable[[T], str]) -> int:
        """Send items, those apart that MLflow refuses; returns how many it took."""
        try:
            send(items)
            return len(items)
        except StoreError as error:
            # A run that somebody deleted refuses everything: then no item is at fault.
            if not error.refused or not self._active():
                raise
            if len(items) == 1:
                self._refuse(items[0], name(items[0]), error)
                return 0
        middle = len(items) // 2
        return self._offer(items[:middle], send, name) + self._offer(items[middle:], send, name)

    def _refuse(self, item: Any, name: str, error: StoreError) -> None:
        if name not in self._refused:
            self._say(
                f"MLflow at {self._store.shown} refuses {name!r:.300} of {self._source.experiment}, {self._source.name} "
                f"({error.said:.300}); it stays in {self._source.folder}, the rest is sent"
            )
        self._refused |= {item, name}

    def _read(self) -> None:
        for record in self._tail.read():
            if record["type"] not in STATUS or self._state[0] == "FINISHED":
                continue
            self._clean = False
            # MLflow takes the latest of several values for the last word: a clock that is set back must not change that.
            self._clock = moment = max(int(record.get("time", 0) * 1000), self._clock + 1)
            if record["type"] == "started":
                by = record.get("provenance", {})
                self._provenance = by if self._began is None else merged(self._provenance, by)
            if self._began is None:
                self._began = moment
            for name, value in record.get("metrics", {}).items():
                place = (encode(name), record["step"])
                metric = Metric(place[0], value, moment, record["step"])
                if record["type"] == "finished":
                    self._metrics[place] = metric
                    self._final.add(place)
                else:
                    self._metrics.setdefault(place, metric)
            status = STATUS[record["type"]]
            self._state = (status, 0 if status == "RUNNING" else moment, clean(record.get("error", ""))[:TAG_LENGTH])

    def _attach(self) -> None:
        source = self._source
        mine = f"tags.`tadp.fingerprint` = '{source.fingerprint}' and attributes.start_time = {self._began}"
        if parent := source.tags.get(PARENT):
            mine += f" and tags.`{PARENT}` = '{parent}'"
        experiment = self._store.experiment_id(source.experiment)
        found = self._client.search_runs([experiment], mine, max_results=1)
        tags = {"tadp.fingerprint": source.fingerprint, **source.tags}
        tags = {key: clean(value) for key, value in tags.items()}
        run = (
            found[0] if found else self._client.create_run(experiment, self._began, tags, clean(source.name)[:LONGEST])
        )
        self._run = run_id = run.info.run_id
        missing = [pair for pair in flatten(source.params).items() if pair[0] not in run.data.params]
        missing = [pair for pair in missing if pair not in self._refused]
        for i in range(0, len(missing), PARAMS_PER_BATCH):
            self._offer(missing[i : i + PARAMS_PER_BATCH], self._send_params, lambda pair: pair[0])
        if source.file not in {file.path for file in self._client.list_artifacts(run_id)}:
            self._client.log_dict(run_id, {**source.record, "provenance": self._provenance}, source.file)
        points = [m for key in run.data.metrics for m in self._client.get_metric_history(run_id, key)]
        points.sort(key=lambda point: point.timestamp)
        self._sent = {(point.key, point.step): as_logged(point.value) for point in points}
        status, ended, error = run.info.status, run.info.end_time, run.data.tags.get(ERROR, "")
        self._told = (status, 0 if status == "RUNNING" else ended, error)
        self._provenance_told = {key: run.data.tags.get(key, "") for key in self._provenance}

    def _send_params(self, pairs: Sequence[tuple[str, str]]) -> None:
        self._client.log_batch(self._run, params=[Param(key, value) for key, value in pairs])

    def _tell(self, status: str, moment: int, error: str) -> None:
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
            # Last, so that a run that says FINISHED is whole.
            self._client.set_terminated(self._run, status, moment)
        self._told = self._state

    def _upload(self, names: Sequence[str]) -> None:
        for name in names:
            if (self._source.folder / name).is_file():
                self._client.log_artifact(self._run, str(self._source.folder / name))


def move_weights(store: Store, fingerprint: str, old: Path, new: Path) -> None:
    """Name another file to the runs of a cell whose weights lie in `old`."""
    experiments = [found.experiment_id for found in pages(store.client.search_experiments)]
    for run in list(pages(store.client.search_runs, experiments, f"tags.`tadp.fingerprint` = '{fingerprint}'")):
        if run.data.tags.get(WEIGHTS) == str(old):
            store.client.set_tag(run.info.run_id, WEIGHTS, str(new))


def same(left: float, right: float) -> bool:
    """Whether two values are equal, NaN to NaN too."""
    return left == right or (math.isnan(left) and math.isnan(right))


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested keys as dotted ones, values as text, both as MLflow takes them; of a long text the beginning."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            flat[encode(prefix + key)] = clean(text)[:PARAM_LENGTH]
    return flat
