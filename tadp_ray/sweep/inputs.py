"""What the recipes of a plan need on this machine: prerequisites, hashes of contents, absolute paths. Does not import Ray."""

import shlex
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from tadp_ray.backbones.families import family_of
from tadp_ray.captions.making import import_words, missing_stores, stores_of
from tadp_ray.captions.store import read_store
from tadp_ray.config.context import ContextConfig
from tadp_ray.config.data import TargetData
from tadp_ray.config.errors import suggestion
from tadp_ray.config.recipe import Recipe
from tadp_ray.config.shipped import shipped
from tadp_ray.data.datasets import Datasets
from tadp_ray.errors import UserError, said_as
from tadp_ray.training.digests import KnownDigests, digests_of

Group = TypeVar("Group", bound=BaseModel)
POCKET = "pocket"
"""Weights that come with the package."""


def absent_prerequisites(
    recipes: Sequence[Recipe], experiments: Path, dry: bool, needs: Mapping[Path, str] | None = None
) -> dict[Hashable, str] | None:
    """Check that the models, tokens and captions that recipes use exist, of those that a command makes.

    Recipes, experiments and needs are those of `missing_prerequisites`.

    Returns:
        None; if `dry`, the missing ones, to which `cell_inputs` adds.

    Raises:
        UserError: some are missing, and not `dry`.
    """
    check_names(recipes)
    missing = missing_prerequisites(recipes, experiments, needs or {})
    if missing and not dry:
        raise UserError("\n".join(missing))
    return dict(enumerate(missing)) if dry else None


def check_names(recipes: Sequence[Recipe]) -> None:
    """Raise UserError if weights are neither a file or folder nor a known name, but nearly one."""
    for weights in {str(getattr(recipe.model, "weights", POCKET)) for recipe in recipes}:
        # A missing folder may be one that is still to be made, so its name must be near.
        close = suggestion(weights, [POCKET], cutoff=0.8)
        if weights != POCKET and close and not Path(weights).exists():
            raise UserError(f"model.weights={weights!r}: no known name, file or folder; {close}")


def missing_prerequisites(recipes: Sequence[Recipe], experiments: Path, needs: Mapping[Path, str]) -> list[str]:
    """Return the missing models, tokens and captions that recipes use and a command makes, with the commands.

    Args:
        recipes: of the cells.
        experiments: a folder that may hold personalization/NAME.yaml, which makes a folder of that name; else the shipped
            personalization of that name does.
        needs: commands by the file or folder that they make.
    """
    commands = {made.absolute(): command for made, command in needs.items()}
    places = {Path(place) for recipe in recipes for place in family_of(recipe.model).places(recipe.model).values()}
    needed = {(place, place.parent if place.suffix else place) for place in places}
    missing = []
    for path, folder in sorted(needed):
        if path.exists():
            continue
        command = commands.get(path.absolute()) or commands.get(folder.absolute())
        if command is None and (maker := personalization_for(folder.name, experiments)):
            command = f"tadp-ray personalize {shlex.quote(str(maker))} --out {shlex.quote(str(folder))}"
        if command:
            missing.append(f"{path} is missing; make it: {command}")
    return [*missing, *missing_stores(recipes)]


def personalization_for(name: str, experiments: Path) -> Path | str | None:
    """Return the file or shipped name of the personalization that makes a folder of this name; None if there is none."""
    file = experiments / "personalization" / f"{name}.yaml"
    if file.is_file():
        return file
    return name if name in shipped("personalizations") else None


def cell_inputs(
    recipe: Recipe, datasets: Datasets, known: KnownDigests, absent: dict[Hashable, str] | None = None
) -> dict[str, Any]:
    """Return a cell's facts about its recipe's files; the other arguments are those of `digests_of`.

    With `absent`, what is missing is listed there, but for caption stores, which a plan has named.
    """
    found = None if absent is None else dict(absent)
    with said_as(import_words(recipe)):
        digests = digests_of(recipe, datasets, known, found)
    if absent is not None and found is not None:
        stores = {*stores_of(recipe, "train"), *stores_of(recipe, "val")}
        absent |= {key: text for key, text in found.items() if not (isinstance(key, tuple) and key[1] in stores)}
    return {
        "digests": digests,
        "stores_of_ground_truth": stores_of_ground_truth(recipe),
        "scored_stores_of_ground_truth": scored_stores_of_ground_truth(recipe),
    }


def stores_of_ground_truth(recipe: Recipe) -> bool:
    """Return whether a caption store of a recipe was made from the ground truth."""
    stores = filter(None, (recipe.caption.store, recipe.caption.target_store))
    # Only a plan without captions comes here with a store that is missing.
    return any(read_store(store).uses_ground_truth for store in stores if store.exists())


def scored_stores_of_ground_truth(recipe: Recipe) -> tuple[str, ...]:
    """Return the names of further captions whose store was made from the ground truth."""
    stores = {
        name: each.store for name, each in recipe.evaluation.captions.items() if each.store and each.store.exists()
    }
    return tuple(name for name, store in stores.items() if read_store(store).uses_ground_truth)


def with_absolute_paths(recipe: Recipe) -> Recipe:
    """Return the recipe with absolute paths, since Ray's workers start in other folders."""
    changes: dict[str, Any] = {}
    if not recipe.compute.storage_address:
        changes["compute"] = recipe.compute.model_copy(update={"storage": str(recipe.compute.folder)})
    data = at_absolute_paths(recipe.data)
    target = getattr(data, "target_domain", None)
    moved = {"target_domain": at_absolute_paths(target)} if isinstance(target, TargetData) else {}
    changes["data"] = data.model_copy(update=moved)
    changes["caption"] = at_absolute_paths(recipe.caption)
    told = {name: at_absolute_paths(caption) for name, caption in recipe.evaluation.captions.items()}
    changes["evaluation"] = recipe.evaluation.model_copy(update={"captions": told})
    model: dict[str, Any] = {"context": with_absolute_encoders(recipe.model.context)}
    if isinstance(weights := getattr(recipe.model, "weights", None), str):
        model["weights"] = absolute_if_here(weights)
    changes["model"] = at_absolute_paths(recipe.model).model_copy(update=model)
    return recipe.model_copy(update=changes)


def at_absolute_paths(group: Group) -> Group:
    """Return a group of keys whose own paths, not those of groups in it, are absolute."""
    return group.model_copy(update={key: value.absolute() for key, value in group if isinstance(value, Path)})


def with_absolute_encoders(context: ContextConfig) -> ContextConfig:
    """Return the context with absolute paths of image encoders."""

    def moved(source: Any) -> Any:
        encoder = getattr(source, "encoder", None)
        return source.model_copy(update={"encoder": absolute_if_here(encoder)}) if encoder else source

    return context.model_copy(update={"sources": tuple(map(moved, context.sources))})


def absolute_if_here(place: str) -> str:
    """Return the absolute path of a file or folder; `pocket`, or what is not here and so perhaps a hub id, unchanged."""
    return str(Path(place).absolute()) if place != POCKET and Path(place).exists() else place
