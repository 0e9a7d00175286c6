"""Keeps the MLflow run of a pretraining, or of the training of an image encoder, up to date while it runs."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from tadp_ray.config.pretraining import ImageEncoderTraining, Pretraining
from tadp_ray.layout import PRETRAINING
from tadp_ray.tracking.run_spec import RunSpec
from tadp_ray.tracking.sender import synced
from tadp_ray.tracking.store import Store

EXPERIMENT = "pocket_pretraining"
PLAN: TypeAdapter[Pretraining | ImageEncoderTraining] = TypeAdapter(Pretraining | ImageEncoderTraining)


def track_pretraining(
    store: Store, plan: Pretraining | ImageEncoderTraining, folder: Path
) -> AbstractContextManager[None]:
    """Send the journal in `folder` to MLflow during the block."""
    return synced(store, pretraining_run_spec(plan, folder))


def pretraining_run_spec(plan: Pretraining | ImageEncoderTraining, folder: Path) -> RunSpec:
    """Return the run of a training."""
    record = plan.model_dump(mode="json")
    return RunSpec(
        folder=folder,
        file=PRETRAINING,
        fingerprint=plan.fingerprint,
        experiment=EXPERIMENT,
        name=f"{plan.trained}, seed {plan.seed}, {plan.seen} images",
        params=record,
        tags={"tadp.experiment": EXPERIMENT, "tadp.seed": str(plan.seed)},
        record=record,
    )


def read_pretraining_run_spec(record: Mapping[str, Any], folder: Path) -> RunSpec:
    """Read the run of a training from the record in its folder.

    Raises:
        ValueError: the record is incomplete, or other code wrote it.
    """
    return pretraining_run_spec(PLAN.validate_python(record), folder)
