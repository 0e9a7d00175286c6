"""Content hashes of the data, weights and captions of a cell. Imports no torch, so that planning is fast."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tadp_ray.backbones.families import family_of
from tadp_ray.captions.store import read_store
from tadp_ray.conditioning.sources import source_digests, source_places
from tadp_ray.config.cell import Cell
from tadp_ray.config.data import DataConfig
from tadp_ray.config.recipe import Recipe
from tadp_ray.data.datasets import Datasets
from tadp_ray.errors import UserError
from tadp_ray.files import file_digest
from tadp_ray.phases import phase

KnownDigests = dict[Hashable, dict[str, str]]
"""Content hashes by what in a recipe names the contents. The cells of a plan share most of them, so each is hashed once."""


ABSENT = "absent: "
"""Prefix of the names that contents without a hash have among the digests of a planned cell; their paths follow."""


def digests_of(
    recipe: Recipe,
    datasets: Datasets | None = None,
    known: KnownDigests | None = None,
    absent: dict[Hashable, str] | None = None,
) -> dict[str, str]:
    """Return the content hashes of a recipe's data, weights and captions.

    Args:
        recipe: recipe of a cell.
        datasets: cache of opened data sets; None: a new one, with the indexes in the recipe's storage folder.
        known: what was hashed before, filled here; None: nothing.
        absent: the error of what is missing, by what names it; filled here. The result has an empty hash by `ABSENT` and path
            for it. None: nothing may be missing.

    Raises:
        UserError: contents are damaged, or missing without `absent`.
    """
    known, found = {} if known is None else known, dict[str, str]()
    for key, part in contents_of(recipe, datasets or Datasets(recipe.compute.folder)).items():
        if key not in known and key not in (absent or ()):
            try:
                known[key] = part.digests()
            except (UserError, FileNotFoundError) as error:
                if absent is None or not part.gone:
                    raise
                absent[key] = str(error)
        # `known` has digests alone, since a cell that is to be trained is planned with it, too.
        found |= known.get(key) or {ABSENT + place: "" for place in part.gone}
    return found


def all_hashed(cell: Cell) -> bool:
    """Return whether everything that a cell reads was hashed, so that its fingerprint is that of a training."""
    return not any(name.startswith(ABSENT) for name in cell.digests)


@dataclass(frozen=True)
class Contents:
    """Contents that a recipe reads: where they are, and what hashes them."""

    places: tuple[str | Path, ...]
    digests: Callable[[], dict[str, str]]

    @property
    def gone(self) -> list[str]:
        """The places where nothing is."""
        return [str(place) for place in self.places if not Path(place).exists()]


def contents_of(recipe: Recipe, datasets: Datasets) -> dict[Hashable, Contents]:
    """Return the contents that a recipe reads by what in it names them."""
    data, model = recipe.data, recipe.model
    roots = (getattr(data, "root", None), getattr(getattr(data, "target_domain", None), "root", None))
    places = {**family_of(model).places(model), **source_places(model.context)}.values()
    found: dict[Hashable, Contents] = {
        data: Contents(tuple(filter(None, roots)), lambda: data_digests(data, datasets)),
        model: Contents(tuple(place for place in places if place and place != "pocket"), lambda: model_digests(recipe)),
    }
    for name, store in caption_stores(recipe).items():
        found[name, store] = Contents((store,), lambda name=name, store=store: {name: read_store(store).digest()})
    for name, file in class_embeddings(recipe).items():
        found[name, file] = Contents((file,), lambda name=name, file=file: {name: embeddings_digest(file)})
    return found


def caption_stores(recipe: Recipe) -> dict[str, Path]:
    """Return the caption stores of a recipe by the names of their hashes."""
    stores = {"captions": recipe.caption.store, "target_captions": recipe.caption.target_store}
    stores |= {f"captions/{name}": caption.store for name, caption in recipe.evaluation.captions.items()}
    return {name: store for name, store in stores.items() if store}


def class_embeddings(recipe: Recipe) -> dict[str, Path]:
    """Return the files of class embeddings of a recipe by the names of their hashes."""
    files = {"embeddings": recipe.caption.embeddings}
    files |= {f"embeddings/{name}": caption.embeddings for name, caption in recipe.evaluation.captions.items()}
    return {name: file for name, file in files.items() if file}


def embeddings_digest(file: Path) -> str:
    """Return the content hash of a file of class embeddings (UserError if there is none)."""
    if not file.is_file():
        raise UserError(
            f"caption.embeddings={str(file)!r}: there is no such file; bring the published one, or make your own by tadp-ray "
            "caption class-embeddings NAME.safetensors --data DATA --weights WEIGHTS and set caption.embeddings to it"
        )
    return file_digest(file)


def data_digests(data: DataConfig, datasets: Datasets) -> dict[str, str]:
    """Return the content hashes of both splits."""
    phase("hashing data")
    return {"train": datasets.open(data, "train").digest(), "val": datasets.open(data, "val").digest()}


def model_digests(recipe: Recipe) -> dict[str, str]:
    """Return the content hashes of a recipe's weights, learned token and image encoders. Opens no data."""
    phase("hashing weights")
    return family_of(recipe.model).digests(recipe.model) | source_digests(recipe.model.context)


def check_contents(cell: Cell, datasets: Datasets) -> None:
    """Check that data, weights and captions are those the cell was planned with; a second check reads changed files only.

    Raises:
        UserError: contents changed since the cell was planned; the message lists them with their paths.
    """
    try:
        found = digests_of(cell.recipe, datasets)
    except FileNotFoundError as error:
        raise UserError(
            f"{error.filename} is gone since this cell was planned; bring it back, or run the same command again without it"
        ) from None
    if changed := changed_names(found, cell.digests):
        paths = dict.fromkeys(str(paths_of(cell.recipe)[name]) for name in changed)
        raise UserError(
            f"{', '.join(changed)} changed since this cell was planned ({', '.join(paths)}): its metrics would be "
            "attributed to the old contents; run the same command again, which trains on the new ones"
        )


def check_trained(run_id: str, cell: Cell, found: Mapping[str, str]) -> None:
    """Check that a finished cell's contents, hashed in `found`, are those that it was trained with.

    Raises:
        UserError: contents changed since.
    """
    if changed := changed_names(found, cell.digests):
        raise UserError(f"run {run_id}: its {', '.join(changed)} changed since it was trained; train the cell anew")


def changed_names(found: Mapping[str, str], known: Mapping[str, str]) -> list[str]:
    """Return the names of the hashes in `found` that differ from those in `known`."""
    return [name for name, digest in found.items() if known.get(name) != digest]


def paths_of(recipe: Recipe) -> dict[str, str | Path | None]:
    """Return the path of each hashed content, by the name of its hash."""
    data = recipe.data
    target = getattr(data, "target_domain", None)
    root = getattr(data, "root", data.kind)
    return {
        "train": root,
        "val": getattr(target, "root", root),
        "weights": recipe.model.backbone,
        **family_of(recipe.model).places(recipe.model),
        **class_embeddings(recipe),
        **caption_stores(recipe),
        **source_places(recipe.model.context),
    }
