"""What a cell's numbers come from beside its settings, as hashes of contents. Needs no torch: planning is quick."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tadp_ray.backbones.families import family_of
from tadp_ray.captions.store import read_store
from tadp_ray.config.cell import Cell
from tadp_ray.config.schema import Recipe
from tadp_ray.data.datasets import Datasets
from tadp_ray.errors import UserError
from tadp_ray.files import file_digest


def digests_of(
    recipe: Recipe, datasets: Datasets | None = None, known: dict[Any, dict[str, str]] | None = None
) -> dict[str, str]:
    """Content hashes of a recipe's data, weights and captions.

    Args:
        recipe: of a cell.
        datasets: opened so far; None: the recipe's are opened for this alone.
        known: what recipes asked for just before have of their data, filled here: the cells of a plan share most of them.
    """
    known, datasets = {} if known is None else known, datasets or Datasets()
    if recipe.data not in known:
        known[recipe.data] = {
            "train": datasets.open(recipe.data, "train").digest(),
            "val": datasets.open(recipe.data, "val").digest(),
        }
    digests = {**known[recipe.data], **model_digests(recipe)}
    if recipe.caption.store:
        digests["captions"] = read_store(recipe.caption.store).digest()
    if recipe.caption.target_store:
        digests["target_captions"] = read_store(recipe.caption.target_store).digest()
    return digests


def model_digests(recipe: Recipe) -> dict[str, str]:
    """Content hashes of what a recipe's model is built on: weights, class embeddings, a learned token. Needs no data."""
    digests = family_of(recipe.model).digests(recipe.model)
    if recipe.caption.embeddings:
        digests["embeddings"] = file_digest(recipe.caption.embeddings)
    return digests


def check_contents(cell: Cell, datasets: Datasets) -> None:
    """Refuse to train a cell on other contents than it is known by; a second look reads only files that have changed.

    Raises:
        UserError: what was changed since the cell was planned, and where it lies.
    """
    if changed := differing(digests_of(cell.recipe, datasets), cell.digests):
        places = dict.fromkeys(str(places_of(cell.recipe)[name]) for name in changed)
        raise UserError(
            f"{', '.join(changed)} changed since this cell was planned ({', '.join(places)}): its numbers would stand for "
            "contents that they do not come from; run the same command again, which trains what is there now"
        )


def check_trained(run_id: str, cell: Cell, found: Mapping[str, str]) -> None:
    """Refuse a finished cell whose contents, of which `found` are hashes, are not what it was trained from.

    Raises:
        UserError: what was changed since.
    """
    if changed := differing(found, cell.digests):
        raise UserError(f"run {run_id}: its {', '.join(changed)} changed since it was trained; train the cell anew")


def differing(found: Mapping[str, str], known: Mapping[str, str]) -> list[str]:
    """Names of what is there now that is not what was known of it."""
    return [name for name, digest in found.items() if known.get(name) != digest]


def places_of(recipe: Recipe) -> dict[str, str | Path | None]:
    """Where what is hashed lies, by the names of the hashes."""
    data, caption = recipe.data, recipe.caption
    target = getattr(data, "target_domain", None)
    root = getattr(data, "root", data.kind)
    return {
        "train": root,
        "val": getattr(target, "root", root),
        "weights": recipe.model.backbone,
        **family_of(recipe.model).places(recipe.model),
        "captions": caption.store,
        "target_captions": caption.target_store,
        "embeddings": caption.embeddings,
    }
