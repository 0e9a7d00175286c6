"""Finds trained models in MLflow by their fingerprints, with the commands that train them."""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from tadp_ray.config.cell import recipe_at
from tadp_ray.config.load import Origins
from tadp_ray.data.datasets import Datasets
from tadp_ray.paper.analysis.finding import Trained
from tadp_ray.sweep.planning import plan_loaded
from tadp_ray.tracking.query import finished
from tadp_ray.tracking.store import Store


def find_trained(
    store: Store,
    file: Path,
    values: tuple[Mapping[str, Any], Origins],
    overrides: Sequence[str],
    changes: Mapping[str, JsonValue],
    seeds: Sequence[int],
) -> list[Trained]:
    """Return one model per seed, trained by any sweep or not trained yet.

    Args:
        store: MLflow.
        file: of the recipe.
        values: of the recipe, from `load_recipe_values`.
        overrides: the `key=value` texts that were applied there.
        changes: further keys and their values.
        seeds: of the models.

    Raises:
        UserError: a change is invalid, or data or weights are missing.
    """
    texts = [*overrides, *(f"{key}={json.dumps(value)}" for key, value in changes.items())]
    recipe = recipe_at(*values, changes, f"{', '.join(changes)} of the analysis")
    datasets = Datasets(recipe.compute.folder)
    cells = [plan_loaded(recipe, file, texts, seed, datasets).cells[0] for seed in seeds]
    done = finished(store, [cell.fingerprint for cell in cells])
    command = shlex.join(["tadp-ray", "train", str(file), *(word for text in texts for word in ("--set", text))])
    return [
        Trained(
            cell, f"{command} --seed {cell.seed}", done[cell.fingerprint].metrics if cell.fingerprint in done else None
        )
        for cell in cells
    ]
