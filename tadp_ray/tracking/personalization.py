"""Keeps a personalization's MLflow run up to date while it runs."""

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


def track_personalization(store: Store, job: PersonalizationJob) -> AbstractContextManager[None]:
    """Send the job's journal to MLflow during the block, and its samples at the end."""
    return synced(store, job_run_spec(job))


def job_run_spec(job: PersonalizationJob) -> RunSpec:
    """Return the run of a personalization."""
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
    """Read the run of a personalization from the record in its folder.

    Raises:
        ValueError: the record is incomplete, or other code wrote it.
    """
    return replace(job_run_spec(PersonalizationJob.model_validate(record)), folder=folder)
