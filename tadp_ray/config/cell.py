"""A cell: one training, fully specified. Its fingerprint is a hash of everything that can change its result."""

import itertools
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from tadp_ray.config.compute import ComputeConfig
from tadp_ray.config.fingerprint import DEFAULTS, all_but, changed, sha256_of
from tadp_ray.config.load import Origins, set_key, validate
from tadp_ray.config.recipe import Recipe
from tadp_ray.config.sweep import Sweep
from tadp_ray.config.values import last_part, text_of
from tadp_ray.config.vocabulary import Scale, StrictModel
from tadp_ray.layout import CELLS
from tadp_ray.registry import TASKS

CAPTION_FILES = {"store": True, "target_store": True, "embeddings": True}
# Paths and resources, which are not hashed; data, weights and captions are hashed by their contents instead.
LOCATIONS = {
    # Sums are in another order with another number of CPU threads or in a compiled step, so the last digits differ.
    "compute": all_but(ComputeConfig, "compile", "cpus"),
    "data": {"root": True, "train": True, "val": True, "target_domain": {"root": True}},
    "model": {"weights": True, "embeddings": True, "context": {"sources": {"encoder": True}}},
    "caption": CAPTION_FILES,
    "evaluation": {"captions": CAPTION_FILES},
}


class Cell(StrictModel):
    """One training of a sweep: a recipe with the values of the axes, and a seed."""

    experiment: str
    seed: int
    axes: dict[str, JsonValue]
    recipe: Recipe
    digests: dict[str, str]
    """Content hashes of data (train, val), weights and caption store, so that moving a file changes nothing."""
    stores_of_ground_truth: bool = False
    """Whether a caption store was made from ground-truth names, as its file states. Not hashed, since its digest is."""
    scored_stores_of_ground_truth: tuple[str, ...] = ()
    """Names of the further captions (`evaluation.captions`) of which the same is true."""

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> "Cell":
        """Return the cell of a record, which may have other keys, too.

        Raises:
            pydantic.ValidationError: the record is incomplete, or was written by code whose recipes had other keys.
        """
        return cls.model_validate({name: value for name, value in record.items() if name in cls.model_fields})

    @property
    def uses_ground_truth(self) -> bool:
        """Whether captions are made from ground-truth names: an oracle, also a degraded or a shuffled one.

        Those of the recipe, in training and evaluation; `oracle_evaluations` are further ones.
        """
        return self.recipe.caption.uses_ground_truth or self.stores_of_ground_truth

    @property
    def oracle_evaluations(self) -> tuple[str, ...]:
        """The names of further evaluations whose captions are made from ground-truth names."""
        return self.recipe.evaluation.oracles(self.scored_stores_of_ground_truth)

    def is_oracle(self, metric: str) -> bool:
        """Whether captions behind a metric are made from ground-truth names, in training or in the evaluation that it names."""
        main = TASKS[self.recipe.task].main
        return self.uses_ground_truth or metric in (f"{main}/{name}" for name in self.oracle_evaluations)

    @property
    def scale(self) -> Scale:
        """The recipe's scale."""
        return self.recipe.scale

    @cached_property
    def group(self) -> str:
        """Hash of everything but the seed that can change the result. Tables average the cells of a group."""
        beside_gpus = {"compute": all_but(ComputeConfig, "compile")} if self.recipe.compute.gpus else {}
        settings = changed(self.recipe, without=LOCATIONS | beside_gpus)
        return sha256_of({"defaults": DEFAULTS, "recipe": settings, "digests": self.digests})

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that can change this cell's numbers, and of nothing else (64 hex digits)."""
        return sha256_of({"group": self.group, "seed": self.seed})

    def with_seed(self, seed: int) -> "Cell":
        """Return the same cell with another seed. All seeds share the hash of their group, which is computed once."""
        shared = self.group
        other = self.model_copy(update={"seed": seed})
        other.__dict__["group"] = shared
        other.__dict__.pop("fingerprint", None)
        return other

    @property
    def folder(self) -> Path:
        """The folder of the cell's journal, checkpoint and pictures."""
        return self.recipe.compute.folder / CELLS / self.fingerprint[:16]

    def at(self, storage: Path) -> "Cell":
        """Return the same cell with its files in another storage folder."""
        compute = self.recipe.compute.model_copy(update={"storage": str(storage.absolute())})
        return self.model_copy(update={"recipe": self.recipe.model_copy(update={"compute": compute})})

    @property
    def name(self) -> str:
        """A readable name, e.g. `precision=0.5 recall=1.0 seed=0`."""
        axes = {**self.axes, "seed": self.seed}
        return " ".join(f"{last_part(key)}={text_of(value)}" for key, value in axes.items())

    @property
    def short_name(self) -> str:
        """The values on the axes and the seed, e.g. `0.5, 1.0, seed 0`, where columns beside it name the axes."""
        return ", ".join([*map(text_of, self.axes.values()), f"seed {self.seed}"])


def grid(sweep: Sweep) -> list[dict[str, JsonValue]]:
    """Return all combinations of a sweep's axis values, the last axis fastest."""
    return [dict(zip(sweep.axes, values, strict=True)) for values in itertools.product(*sweep.values.values())]


def each_once(cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells without those of the same training as an earlier one."""
    first: dict[str, Cell] = {}
    for cell in cells:
        first.setdefault(cell.fingerprint, cell)
    return list(first.values())


def recipe_at(
    raw: Mapping[str, Any], origins: Origins, changes: Mapping[str, JsonValue], by: Mapping[str, str] | str
) -> Recipe:
    """Return the recipe at one combination of axis values.

    Args:
        raw: the recipe's values, from `load_recipe_values`.
        origins: what set them.
        changes: values by dotted recipe key.
        by: what sets the changes, for errors, such as `--axis caption.recall=0.5`; or that of each key.

    Raises:
        ConfigError: the recipe is invalid. Errors name the recipe and what sets the changes.
    """
    values = dict(raw)
    for key, value in changes.items():
        values = set_key(values, key, value)
        told = by if isinstance(by, str) else by[key]
        origins = origins.changed(key, value, told, f"{origins.file} with {told}")
    return validate(Recipe, values, origins)
