"""A personalization's run in MLflow, kept up to date from its journal while it runs."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tadp_ray.layout import PERSONALIZATION
from tadp_ray.paper.personalization.job import PersonalizationJob
from tadp_ray.tracking.run_spec import RunSpec
from tadp_ray.tracking.sender import synced
from tadp_ray.tracking.store import Store

EXPERIMENT = "personalization"


def told_to_mlflow(store: Store, job: PersonalizationJob) -> AbstractContextManager[None]:
    """Ship the job's journal, and in the end its samples, to MLflow for as long as the block lasts."""
    return synced(store, job_run_spec(job))


def job_run_spec(job: PersonalizationJob) -> RunSpec:
    """A personalization's journal."""
    record = job.model_dump(mode="json")
    return RunSpec(
        folder=job.folder,
        file=PERSONALIZATION,
        fingerprint=job.fingerprint,
        experiment=EXPERIMENT,
        name=f"{job.folder.name} seed={job.seed}",
        params=record["plan"],
        tags={
            "tadp.experiment": EXPERIMENT,
            "tadp.seed": str(job.seed),
            **{f"tadp.digest.{name}": digest for name, digest in job.digests.items()},
        },
        record=record,
    )


def read_job_run_spec(record: Mapping[str, Any], folder: Path) -> RunSpec:
    """What `job_run_spec` made, out of the record that lies in a folder.

    Raises:
        ValueError: it is not whole, or made by other code.
    """
    return replace(job_run_spec(PersonalizationJob.model_validate(record)), folder=folder)
