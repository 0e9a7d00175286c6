"""A pretraining's run in MLflow, kept up to date from its journal while it runs."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tadp_ray.config.pretraining import Pretraining
from tadp_ray.layout import PRETRAINING
from tadp_ray.tracking.run_spec import RunSpec
from tadp_ray.tracking.sender import synced
from tadp_ray.tracking.store import Store

EXPERIMENT = "pocket_pretraining"


def told_to_mlflow(store: Store, plan: Pretraining, folder: Path) -> AbstractContextManager[None]:
    """Ship the journal in `folder` to MLflow for as long as the block lasts."""
    return synced(store, pretraining_run_spec(plan, folder))


def pretraining_run_spec(plan: Pretraining, folder: Path) -> RunSpec:
    """A pretraining's journal."""
    record = plan.model_dump(mode="json")
    return RunSpec(
        folder=folder,
        file=PRETRAINING,
        fingerprint=plan.fingerprint,
        experiment=EXPERIMENT,
        name=f"seed {plan.seed}, {plan.unet_steps * plan.unet_batch} images",
        params=record,
        tags={"tadp.experiment": EXPERIMENT, "tadp.seed": str(plan.seed)},
        record=record,
    )


def read_pretraining_run_spec(record: Mapping[str, Any], folder: Path) -> RunSpec:
    """What `pretraining_run_spec` made, out of the record that lies in a folder.

    Raises:
        ValueError: it is not whole, or made by other code.
    """
    return pretraining_run_spec(Pretraining.model_validate(record), folder)
