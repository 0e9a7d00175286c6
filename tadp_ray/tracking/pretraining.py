"""A pretraining's run in MLflow, kept up to date from its journal while it runs."""

from contextlib import AbstractContextManager
from pathlib import Path

from tadp_ray.config.pretraining import Pretraining
from tadp_ray.tracking.run_spec import RunSpec
from tadp_ray.tracking.sender import synced
from tadp_ray.tracking.store import Store

EXPERIMENT = "pocket_pretraining"


def told_to_mlflow(store: Store, plan: Pretraining, folder: Path) -> AbstractContextManager[None]:
    """Ship the journal in `folder` to MLflow for as long as the block lasts."""
    source = RunSpec(
        folder=folder,
        fingerprint=plan.fingerprint,
        experiment=EXPERIMENT,
        name=f"seed {plan.seed}, {plan.unet_steps * plan.unet_batch} images",
        params=plan.model_dump(mode="json"),
        tags={"tadp.experiment": EXPERIMENT, "tadp.seed": str(plan.seed)},
        card=plan.model_dump(mode="json"),
    )
    return synced(store, source)
