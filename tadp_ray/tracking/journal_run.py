"""A journal's run in MLflow: made or found again, filled from the journal, each value once."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from mlflow.entities import Metric, Param, RunTag

from tadp_ray.metrics.per_image import PER_IMAGE
from tadp_ray.tracking.journal import Tail
from tadp_ray.tracking.provenance import provenance
from tadp_ray.tracking.query import CARD, as_logged
from tadp_ray.tracking.source import PARENT, Source
from tadp_ray.tracking.store import Store

METRICS_PER_BATCH = 1000
PARAMS_PER_BATCH = 100
TAG_LENGTH = 5000
FILES = ("predictions.png", PER_IMAGE, "samples.png", "learned_embeds.safetensors")
MODEL = "model.safetensors"
ERROR = "tadp.error"
STATUS = {"started": "RUNNING", "metrics": "RUNNING", "finished": "FINISHED", "failed": "FAILED"}


class JournalRun:
    """Ships one journal to a run of its own, which begins when the journal does and is known by that.

    A value keeps the time of its first journal record, and what a restarted training repeats is skipped; only the
    finished record may correct a value. MLflow's database refuses a second metric of equal key, step,
    time and value, so even a batch that arrived without its answer cannot be stored twice.
    """

    def __init__(self, store: Store, source: Source) -> None:
        self._source, self._store, self._client = source, store, store.client
        self._tail = Tail(source.folder / "journal.jsonl")
        self._metrics: dict[tuple[str, int], Metric] = {}
        self._final: set[tuple[str, int]] = set()
        self._sent: dict[tuple[str, int], float] = {}
        self._run: str | None = None
        self._settled = True
        self._began: int | None = None
        self._clock = 0
        self._state = self._told = ("RUNNING", 0, "")

    def ship(self) -> int:
        """Send what the journal holds and MLflow does not.

        Returns: how many values and state changes that were.

        Raises:
            MlflowException, OSError: MLflow did not take it; call `lose` and try again later.
        """
        self._read()
        if self._settled:
            return 0
        if self._run is None:
            self._attach()
        pending = self._pending()
        count = len(pending) + (self._state != self._told)
        for i in range(0, len(pending), METRICS_PER_BATCH):
            batch = pending[i : i + METRICS_PER_BATCH]
            self._client.log_batch(self._run, metrics=[self._metrics[key] for key in batch])
            self._sent |= {key: self._metrics[key].value for key in batch}
        if self._state != self._told:
            self._tell(*self._state)
        self._settled = True
        return count

    def lose(self) -> None:
        """Trust nothing that was sent: MLflow is asked again what it holds."""
        self._run = None
        self._settled = not self.begun

    def stop(self) -> None:
        """Note that a training without an end was interrupted, after its last sign of life."""
        self._read()
        if self._began is not None and self._state[0] == "RUNNING":
            self._state = ("KILLED", self._clock, "")
            self._settled = False

    @property
    def unsent(self) -> int:
        """Values and state changes that MLflow does not hold yet, of what was read so far."""
        return 0 if self._settled else len(self._pending()) + (self._state != self._told or self._run is None)

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
            for key, metric in self._metrics.items()
            if key not in self._sent or (key in self._final and not same(metric.value, self._sent[key]))
        ]

    def _read(self) -> None:
        for record in self._tail.read():
            self._settled = False
            # MLflow takes the latest of several values for the last word: a clock that is set back must not change that.
            self._clock = moment = max(int(record["time"] * 1000), self._clock + 1)
            if self._began is None:
                self._began = moment
            for name, value in record.get("metrics", {}).items():
                place = (metric_key(name), record["step"])
                metric = Metric(place[0], value, moment, record["step"])
                if record["type"] == "finished":
                    self._metrics[place] = metric
                    self._final.add(place)
                else:
                    self._metrics.setdefault(place, metric)
            status = STATUS[record["type"]]
            self._state = (status, 0 if status == "RUNNING" else moment, record.get("error", "")[:TAG_LENGTH])

    def _attach(self) -> None:
        source = self._source
        mine = f"tags.`tadp.fingerprint` = '{source.fingerprint}' and attributes.start_time = {self._began}"
        if parent := source.tags.get(PARENT):
            mine += f" and tags.`{PARENT}` = '{parent}'"
        experiment = self._store.experiment_id(source.experiment)
        found = self._client.search_runs([experiment], mine, max_results=1)
        tags = {"tadp.fingerprint": source.fingerprint, **source.tags, **provenance()}
        run = found[0] if found else self._client.create_run(experiment, self._began, tags, source.name)
        run_id, known = run.info.run_id, run.data.params
        missing = [Param(key, value) for key, value in flatten(source.params).items() if key not in known]
        for i in range(0, len(missing), PARAMS_PER_BATCH):
            self._client.log_batch(run_id, params=missing[i : i + PARAMS_PER_BATCH])
        if CARD not in {file.path for file in self._client.list_artifacts(run_id)}:
            self._client.log_dict(run_id, {**source.card, "provenance": provenance()}, CARD)
        points = [m for key in run.data.metrics for m in self._client.get_metric_history(run_id, key)]
        points.sort(key=lambda point: point.timestamp)
        self._sent = {(point.key, point.step): as_logged(point.value) for point in points}
        status, ended, error = run.info.status, run.info.end_time, run.data.tags.get(ERROR, "")
        self._told = (status, 0 if status == "RUNNING" else ended, error if status == "FAILED" else "")
        self._run = run_id

    def _tell(self, status: str, moment: int, error: str) -> None:
        if status == "RUNNING":
            self._client.update_run(self._run, status=status)
        else:
            if status == "FINISHED":
                self._upload()
            if error:
                self._client.set_tag(self._run, ERROR, error)
            # Last, so that a run that says FINISHED is whole.
            self._client.set_terminated(self._run, status, moment)
        self._told = self._state

    def _upload(self) -> None:
        for name in FILES:
            if (self._source.folder / name).is_file():
                self._client.log_artifact(self._run, str(self._source.folder / name))
        if (self._source.folder / MODEL).is_file():
            tags = [RunTag("tadp.checkpoint", str(self._source.folder / MODEL))]
            self._client.log_batch(self._run, tags=tags)


def same(left: float, right: float) -> bool:
    """Whether two values are equal, NaN to NaN too."""
    return left == right or (math.isnan(left) and math.isnan(right))


def metric_key(name: str) -> str:
    """A metric's name with `_` for what MLflow allows in no key (class names may hold anything)."""
    return re.sub(r"[^\w.\-:/ ]", "_", name, flags=re.ASCII)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested keys as dotted ones, values as text."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value if isinstance(value, str) else json.dumps(value)
    return flat
