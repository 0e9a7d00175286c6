"""The run of an analysis in MLflow: its settings, its numbers, and its pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param

from tadp_ray.config.vocabulary import Scale
from tadp_ray.tracking.journal_run import METRICS_PER_BATCH, flatten, metric_key
from tadp_ray.tracking.provenance import provenance
from tadp_ray.tracking.store import Store
from tadp_ray.tracking.sweep_run import attach, end_parent

EXPERIMENT = "analyses"
FINDING = "tadp.finding"
"""Tag of a run that is whole: what the finding is called."""


def begin_analysis(store: Store, name: str, scale: Scale, question: str, settings: Mapping[str, Any]) -> str:
    """Id of a new run for an analysis, RUNNING, with its settings as parameters."""
    tags = {"tadp.analysis": name, "tadp.scale": scale, "mlflow.note.content": question, **provenance()}
    run_id = store.client.create_run(
        store.experiment_id(EXPERIMENT), tags=tags, run_name=f"{name} ({scale})"
    ).info.run_id
    store.client.log_batch(run_id, params=[Param(key, value) for key, value in flatten(settings).items()])
    return run_id


def end_analysis(store: Store, run_id: str, name: str, numbers: Mapping[str, float], files: Sequence[Path]) -> None:
    """Send what was found, numbers and files, and close the run."""
    began = store.client.get_run(run_id).info.start_time
    metrics = [Metric(metric_key(name), value, began, 0) for name, value in numbers.items()]
    for first in range(0, len(metrics), METRICS_PER_BATCH):
        store.client.log_batch(run_id, metrics=metrics[first : first + METRICS_PER_BATCH])
    attach(store, run_id, files)
    store.client.set_tag(run_id, FINDING, name)
    end_parent(store, run_id, "FINISHED")


def fail_analysis(store: Store, run_id: str) -> None:
    """Close the run of an analysis that came to no end."""
    end_parent(store, run_id, "FAILED")
