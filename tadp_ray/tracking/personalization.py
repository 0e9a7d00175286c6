"""A personalization's run in MLflow, kept up to date from its journal while it runs."""

from contextlib import AbstractContextManager

from tadp_ray.personalization.job import PersonalizationJob
from tadp_ray.tracking.run_spec import RunSpec
from tadp_ray.tracking.sender import synced
from tadp_ray.tracking.store import Store

EXPERIMENT = "personalization"


def told_to_mlflow(store: Store, job: PersonalizationJob) -> AbstractContextManager[None]:
    """Ship the job's journal, and in the end its samples, to MLflow for as long as the block lasts."""
    source = RunSpec(
        folder=job.folder,
        fingerprint=job.fingerprint,
        experiment=EXPERIMENT,
        name=f"{job.folder.name} seed={job.seed}",
        params=job.plan.model_dump(mode="json"),
        tags={
            "tadp.experiment": EXPERIMENT,
            "tadp.seed": str(job.seed),
            **{f"tadp.digest.{name}": digest for name, digest in job.digests.items()},
        },
        card=job.model_dump(mode="json"),
    )
    return synced(store, source)
