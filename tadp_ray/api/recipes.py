"""Recipes in Python: the same keys, rules and errors as in YAML."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic_core import PydanticSerializationError, to_jsonable_python

from tadp_ray.config.load import KeyPath, load_recipe_values, merge, validate
from tadp_ray.config.recipe import Recipe
from tadp_ray.config.shipped import file_of
from tadp_ray.errors import UserError


def build_recipe(base: str | os.PathLike | Recipe | None = None, **groups: Any) -> Recipe:
    """Build a recipe, and check every rule that needs no data.

        build_recipe(data={"kind": "scenes"}, caption={"source": "oracle"}, schedule={"iterations": 150, "learning_rate": 1e-3})
        build_recipe("pocket_segmentation", schedule={"iterations": 50})

    Args:
        base: a recipe that the groups override: a file, the name of a shipped one, or a recipe; None: no base.
        groups: groups of keys as in YAML: data, caption, model, schedule, augment, evaluation, compute ...

    Raises:
        UserError: lists every invalid key with its value and the rule; or the file does not exist.
    """
    raw, origin = values_of(base)
    try:
        changes = to_jsonable_python(groups)
    except PydanticSerializationError as error:
        raise UserError(f"build_recipe: {error}; use numbers, texts, lists and mappings, as in YAML") from None

    def named(location: KeyPath) -> str:
        return "build_recipe" if holds(changes, location) else origin(location)

    return validate(Recipe, merge(raw, changes), named)


def values_of(base: str | os.PathLike | Recipe | None) -> tuple[dict[str, Any], Any]:
    """Return a base's raw values, and a function that returns the origin of a key path."""
    if base is None:
        return {}, lambda _: "build_recipe"
    if isinstance(base, Recipe):
        return without_unstated(base), lambda _: "the base recipe"
    return load_recipe_values(file_of(Path(base), "recipes"))


def without_unstated(base: Recipe) -> dict[str, Any]:
    """Return a recipe's raw values without default weights and encoders, since data of other kinds need them to be stated."""
    raw = base.model_dump(mode="json")
    if "weights" not in base.model.model_fields_set:
        raw["model"].pop("weights", None)
    for source, values in zip(base.model.context.sources, raw["model"]["context"]["sources"], strict=True):
        if "encoder" not in source.model_fields_set:
            values.pop("encoder", None)
    return raw


def holds(values: Any, location: KeyPath) -> bool:
    """Return whether nested mappings have a value at a key path, or at a group above it."""
    for part in location:
        if not isinstance(values, Mapping):
            return True
        if part not in values:
            return False
        values = values[part]
    return True


def check_recipe(recipe: Recipe, seed: int = 0) -> None:
    """Open a recipe's data, weights and captions, and check what training needs.

    Args:
        recipe: from `build_recipe`.
        seed: of random captions.

    Raises:
        UserError: data, weights, captions or sizes are invalid.
    """
    from tadp_ray.training.check import check_setup
    from tadp_ray.training.setup import TrainSetup

    check_setup(TrainSetup(recipe, seed))
