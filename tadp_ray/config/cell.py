"""A cell: one training, resolved and frozen, known by the fingerprint of everything that can change its result."""

import itertools
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from tadp_ray.config.compute import ComputeConfig
from tadp_ray.config.fingerprint import DEFAULTS, but_threads, changed, sha256_of
from tadp_ray.config.load import KeyPath, set_key, validate
from tadp_ray.config.schema import Recipe, Sweep
from tadp_ray.config.vocabulary import Scale, StrictModel
from tadp_ray.layout import CELLS

# Where things lie and what they run on: the contents of data, weights and captions count by their digests instead.
LOCATIONS = {
    "compute": True,
    "data": {"root": True, "train": True, "val": True, "target_domain": {"root": True}},
    "model": {"weights": True, "embeddings": True},
    "caption": {"store": True, "target_store": True, "embeddings": True},
}


class Cell(StrictModel):
    """One training of a sweep: a recipe with its axis values in place, and a seed."""

    experiment: str
    seed: int
    axes: dict[str, JsonValue]
    recipe: Recipe
    digests: dict[str, str]
    """Content hashes of data (train, val), weights and caption store, so that moving a file changes nothing."""
    stores_of_ground_truth: bool = False
    """Whether a caption store says of itself that it was made of ground-truth names; known by its digest, so not hashed."""

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> "Cell":
        """A cell out of what was kept of it, which may hold other keys beside a cell's.

        Raises:
            pydantic.ValidationError: it is not whole, or made by code whose recipes had other keys.
        """
        return cls.model_validate({name: value for name, value in record.items() if name in cls.model_fields})

    @property
    def uses_ground_truth(self) -> bool:
        """Whether what images are told is made of their ground-truth names: an oracle, whole, degraded, dealt out anew."""
        return self.recipe.caption.uses_ground_truth or self.stores_of_ground_truth

    @property
    def scale(self) -> Scale:
        """Its recipe's, whichever command planned it."""
        return self.recipe.scale

    @cached_property
    def group(self) -> str:
        """Hash of all that can change the result but the seed: cells of one group are averaged in a table."""
        located = LOCATIONS if self.recipe.compute.gpus else LOCATIONS | {"compute": but_threads(ComputeConfig)}
        settings = changed(self.recipe, without=located)
        return sha256_of({"defaults": DEFAULTS, "recipe": settings, "digests": self.digests})

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that can change this cell's numbers, and of nothing else (64 hex digits)."""
        return sha256_of({"group": self.group, "seed": self.seed})

    @property
    def folder(self) -> Path:
        """Where this cell keeps its journal, checkpoint and pictures."""
        return self.recipe.compute.folder / CELLS / self.fingerprint[:16]

    def at(self, storage: Path) -> "Cell":
        """The same training, its files kept elsewhere."""
        compute = self.recipe.compute.model_copy(update={"storage": str(storage.absolute())})
        return self.model_copy(update={"recipe": self.recipe.model_copy(update={"compute": compute})})

    @property
    def name(self) -> str:
        """`precision=0.5 recall=1.0 seed=0`: what people call this cell."""
        return " ".join(f"{key.rpartition('.')[2]}={value}" for key, value in (*self.axes.items(), ("seed", self.seed)))


def grid(sweep: Sweep) -> list[dict[str, JsonValue]]:
    """All combinations of the sweep's axis values, last axis fastest."""
    return [dict(zip(sweep.axes, values, strict=True)) for values in itertools.product(*sweep.values.values())]


def recipe_at(raw: Mapping[str, Any], origin: Any, changes: Mapping[str, JsonValue], place: str) -> Recipe:
    """The recipe with one combination of axis values in place.

    Args:
        raw: the recipe's values, as of `load_recipe_values`.
        origin: says where a key path of them comes from.
        changes: recipe keys and their values.
        place: where the changes come from, e.g. a sweep's file and `axes`.

    Raises:
        ConfigError: a change breaks a rule (named with its place), or the recipe does.
    """
    values = dict(raw)
    for key, value in changes.items():
        values = set_key(values, key, value)

    def named(location: KeyPath) -> str:
        inside = any(tuple(key.split(".")) == location[: key.count(".") + 1] for key in changes)
        return place if inside else origin(location)

    return validate(Recipe, values, named)
