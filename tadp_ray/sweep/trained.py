"""The trained models that something asks for, each found in MLflow by its fingerprint, and the command that trains it."""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import JsonValue

from tadp_ray.analysis.finding import Trained
from tadp_ray.sweep.plan import plan_one
from tadp_ray.tracking.query import finished
from tadp_ray.tracking.store import Store


def find_trained(
    store: Store, recipe: Path, overrides: Sequence[str], changes: Mapping[str, JsonValue], seeds: Sequence[int]
) -> list[Trained]:
    """One model a seed, trained by whatever sweep, or not trained yet.

    Args:
        store: MLflow.
        recipe: the file.
        overrides: `key=value` texts laid over it.
        changes: more keys and their values.
        seeds: of the models.

    Raises:
        UserError: the recipe, its data or its weights are not there.
    """
    texts = [*overrides, *(f"{key}={json.dumps(value)}" for key, value in changes.items())]
    cells = [plan_one(recipe, texts, seed).cells[0] for seed in seeds]
    done = finished(store, [cell.fingerprint for cell in cells])
    told = shlex.join(["tadp-ray", "train", str(recipe), *(word for text in texts for word in ("--set", text))])
    return [
        Trained(
            cell, f"{told} --seed {cell.seed}", done[cell.fingerprint].metrics if cell.fingerprint in done else None
        )
        for cell in cells
    ]
