"""An experiment as a list of cells: what there is to train, before anything is trained. Knows no Ray."""

import itertools
import logging
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tadp_ray.captions.making import missing_stores
from tadp_ray.captions.store import read_store
from tadp_ray.config.cell import Cell, grid, recipe_at
from tadp_ray.config.errors import ConfigError, nearest
from tadp_ray.config.experiments import ResolvedExperiment, experiment_name, load_experiment
from tadp_ray.config.fingerprint import sha256_of
from tadp_ray.config.load import load_recipe, load_recipe_values
from tadp_ray.config.metrics import known_metrics, unknown_metric
from tadp_ray.config.schema import Experiment, Recipe, Sweep
from tadp_ray.config.search import Search
from tadp_ray.config.shipped import shipped
from tadp_ray.config.table import TableSpec
from tadp_ray.config.vocabulary import Scale
from tadp_ray.config.yaml12 import parse_yaml
from tadp_ray.data.datasets import class_names, remarks
from tadp_ray.errors import UserError
from tadp_ray.tracking.names import check_classes
from tadp_ray.training.digests import digests_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """One experiment at one scale: every cell of its table, and which of them this command asks for."""

    name: str
    """The experiment's: its file's, with the recipe's behind it where another recipe was swapped in."""
    settings: str
    """The recipe, and what was changed in it by hand."""
    scale: Scale
    """Which of the experiment's recipes and sweeps; cells have the scale of what they are trained on."""
    question: str
    """What the cells are trained for."""
    cells: tuple[Cell, ...]
    """Every cell of the table: axis values x seeds."""
    asked: tuple[Cell, ...]
    """The cells that `--only` leaves; all of them without it."""
    search: Search | None = None
    """When cells that do worse than others are given up; None: never."""
    source: ResolvedExperiment | None = None
    """The experiment's files as they were read; None for a single recipe and for a search."""
    table: TableSpec | None = None
    """The table that the cells fill, which knows each cell's (row, column); None where there is no experiment."""

    @property
    def recipe(self) -> Recipe:
        """The recipe of the first cell; task, data and compute are those of all cells unless an axis varies them."""
        return self.cells[0].recipe

    @property
    def storage(self) -> Path:
        """Where this machine keeps cells, latents and tables."""
        return self.recipe.compute.folder

    @property
    def folder(self) -> Path:
        """Where this sweep's table and figures are written."""
        return self.storage / self.name / self.scale

    @property
    def key(self) -> str:
        """Hash of the table's cells, seeds aside: more seeds fill the same table, other settings make another."""
        return sha256_of(sorted({cell.group for cell in self.cells}))

    @property
    def oracle(self) -> str | None:
        """A line on the cells whose images are told ground-truth names; None if no cell's are."""
        told = [cell for cell in self.asked if cell.uses_ground_truth]
        if not told:
            return None
        which = "all cells are" if len(told) == len(self.asked) else f"{len(told)} of {len(self.asked)} cells are"
        return oracle_line(which, [cell.recipe.caption.source for cell in told])

    def missing(self, done: Container[str]) -> list[Cell]:
        """The cells that are asked for and not done; places of a table that are the same training have one."""
        return list({cell.fingerprint: cell for cell in self.asked if cell.fingerprint not in done}.values())

    def warn(self) -> None:
        """Log what is to be known of the data before anything is trained."""
        for data in {cell.recipe.data: None for cell in self.cells}:
            for line in remarks(data):
                log.warning(line)

    def check(self, cells: Sequence[Cell]) -> None:
        """Open the data and make the prompts of cells that are about to be trained.

        Raises:
            UserError: the first thing that does not fit, with the mend.
        """
        # Takes seconds to import; a sweep that is finished, or whose files are wrong, does not wait for it.
        from tadp_ray.training.setup import TrainSetup, forget

        for cell in cells:
            try:
                check_classes(class_names(cell.recipe.data))
                TrainSetup(cell.recipe, cell.seed).check()
            except UserError as error:
                raise UserError(f"cell {cell.name}: {error}") from None
        # Stable Diffusion 1.5 has 4 GiB, which belong to those who train.
        forget()


def make_plan(
    file: Path,
    scale: Scale,
    *,
    recipe: Path | None = None,
    overrides: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
    only: Sequence[str] = (),
) -> Plan:
    """The cells of an experiment file.

    Args:
        file: the experiment.
        scale: which of its recipes.
        recipe: a recipe file instead of the experiment's own.
        overrides: `key=value` texts laid over the recipe.
        seeds: instead of the experiment's.
        only: `axis=value` texts; asked for are cells with one of the values named, on every axis named.

    Raises:
        ConfigError: something in the files or the texts is wrong; every error of a file at once.
        UserError: data, weights or caption stores are not there.
    """
    source = load_experiment(file)
    experiment, name = source.experiment, experiment_name(file, recipe)
    recipe = recipe or source.recipe_file(scale)
    axes_file, sweep = source.sweep_at(scale)
    idle = [key for key in sweep.keys if key.startswith("compute.")]
    if idle:
        raise ConfigError(
            [f"{axes_file}: axes: {idle[0]}: compute keys say where cells are trained, and none is an axis"]
        )
    inside = tuple(f"{key}." for key in sweep.keys)
    fixed = [text for text in overrides if f"{text.partition('=')[0].strip()}.".startswith(inside)]
    if fixed:
        raise ConfigError([f"--set {fixed[0]}: {axes_file} varies this key; choose among its values with --only"])
    raw, origin = load_recipe_values(recipe, overrides)
    cells, hashed = [], {}
    recipes = [recipe_at(raw, origin, sweep.changes(axes), f"{axes_file}: axes") for axes in grid(sweep)]
    check_results(file, experiment, recipes)
    check_made(recipes, file.parent)
    for axes, found in zip(grid(sweep), recipes, strict=True):
        resolved = with_absolute_paths(found)
        contents = contents_of(resolved, hashed)
        for seed in experiment.seeds if seeds is None else seeds:
            cells.append(Cell(experiment=name, seed=seed, axes=axes, recipe=resolved, **contents))
    wanted: dict[str, list[Any]] = {}
    for key, value in (parse_only(text, sweep) for text in only):
        wanted.setdefault(key, []).append(value)
    asked = [cell for cell in cells if all(cell.axes[key] in values for key, values in wanted.items())]
    settings = settings_of(recipe, overrides)
    return Plan(
        name,
        settings,
        scale,
        experiment.question,
        tuple(cells),
        tuple(asked),
        source=source,
        table=source.table(scale, cells[0].scale, settings),
    )


def plan_one(file: Path, overrides: Sequence[str], seed: int) -> Plan:
    """The one cell of a recipe file.

    Raises:
        ConfigError: something in the file or the overrides is wrong.
        UserError: data, weights or the caption store are not there.
    """
    return plan_loaded(load_recipe(file, overrides), file, overrides, seed)


def plan_loaded(recipe: Recipe, file: Path, overrides: Sequence[str], seed: int) -> Plan:
    """The one cell of a recipe that was read from a file, with the overrides laid over it.

    Raises:
        UserError: data, weights or the caption store are not there.
    """
    check_made([recipe], file.parent.parent)
    question = f"How well does one training by {file.name} do?"
    return plan_recipe(recipe, file.stem, settings_of(file, overrides), question, seed)


def plan_recipe(recipe: Recipe, name: str, settings: str, question: str, seed: int) -> Plan:
    """The one cell of a recipe that is in memory, as an experiment of a name.

    Raises:
        UserError: data, weights or the caption store are not there.
    """
    recipe = with_absolute_paths(recipe)
    cell = Cell(experiment=name, seed=seed, axes={}, recipe=recipe, **contents_of(recipe, {}))
    return Plan(name, settings, cell.scale, question, (cell,), (cell,))


def check_made(recipes: Sequence[Recipe], experiments: Path) -> None:
    """Name the commands that make the personalised models, tokens and captions which recipes ask for and which are not there.

    Args:
        recipes: of the cells.
        experiments: the folder that may hold personalization/, whose NAME.yaml makes a folder of that name; a shipped one does
            where it does not.

    Raises:
        UserError: some are missing.
    """
    asked = {(Path(recipe.model.weights), Path(recipe.model.weights)) for recipe in recipes}
    asked |= {(path, path.parent) for recipe in recipes if (path := recipe.model.embeddings)}
    missing = []
    for path, folder in sorted(asked):
        if not path.exists() and (maker := maker_of(folder.name, experiments)):
            missing.append(f"{path} is not there; make it: tadp-ray personalize {maker} --out {folder}")
    if missing := [*missing, *missing_stores(recipes)]:
        raise UserError("\n".join(missing))


def maker_of(name: str, experiments: Path) -> Path | str | None:
    """The personalization, by its file or by its shipped name, that makes a folder of this name."""
    file = experiments / "personalization" / f"{name}.yaml"
    if file.is_file():
        return file
    return name if name in shipped("personalizations") else None


def oracle_line(which: str, sources: Iterable[str]) -> str:
    """`oracle: all cells are told names from the ground truth ...`."""
    named = ", ".join(sorted(set(sources)))
    return f"oracle: {which} told names from the ground truth, of scored images too (caption.source: {named})"


def contents_of(recipe: Recipe, known: dict[Any, dict[str, str]]) -> dict[str, Any]:
    """What a cell is told of its recipe's files; `known` as of `digests_of`."""
    return {"digests": digests_of(recipe, known), "stores_of_ground_truth": stores_of_ground_truth(recipe)}


def stores_of_ground_truth(recipe: Recipe) -> bool:
    """Whether a caption store of a recipe was made of ground-truth names."""
    stores = filter(None, (recipe.caption.store, recipe.caption.target_store))
    return any(read_store(store).uses_ground_truth for store in stores)


def check_results(file: Path, experiment: Experiment, recipes: Sequence[Recipe]) -> None:
    """Refuse a figure that is not drawn of some cells, and metrics that some will not have (ConfigError)."""
    if experiment.figure and (others := {recipe.task for recipe in recipes} - {"segmentation"}):
        kind = experiment.figure.kind
        raise ConfigError(
            [f"{file}: figure.kind={kind}: drawn of segmentation only, not of {min(others)}; leave it out"]
        )
    for recipe, metric in itertools.product(recipes, experiment.table.metrics):
        if said := unknown_metric(metric, known_metrics(recipe, class_names(recipe.data))):
            raise ConfigError([f"{file}: table.metrics={metric!r}: {said}"])


def settings_of(recipe: Path, overrides: Sequence[str]) -> str:
    """A recipe by name, and what was changed in it by hand; where it runs changes nothing, but for the threads of CPUs."""
    told = [text for text in overrides if not text.startswith("compute.") or text.startswith("compute.cpus")]
    return ", ".join([f"recipe {recipe.stem}", *told])


def with_absolute_paths(recipe: Recipe) -> Recipe:
    """The recipe with absolute paths, since Ray's workers start in folders of their own."""
    changes: dict[str, Any] = {}
    if not recipe.compute.address:
        changes["compute"] = recipe.compute.model_copy(update={"storage": str(recipe.compute.folder)})
    if hasattr(recipe.data, "root"):
        changes["data"] = recipe.data.model_copy(update={"root": recipe.data.root.absolute()})
        if target := getattr(recipe.data, "target_domain", None):
            moved = target.model_copy(update={"root": target.root.absolute()})
            changes["data"] = changes["data"].model_copy(update={"target_domain": moved})
    files = {
        key: path.absolute()
        for key in ("store", "target_store", "embeddings")
        if (path := getattr(recipe.caption, key))
    }
    if files:
        changes["caption"] = recipe.caption.model_copy(update=files)
    model: dict[str, Any] = {}
    if recipe.model.weights != "pocket" and Path(recipe.model.weights).exists():
        model["weights"] = str(Path(recipe.model.weights).absolute())
    if recipe.model.embeddings:
        model["embeddings"] = recipe.model.embeddings.absolute()
    if model:
        changes["model"] = recipe.model.model_copy(update=model)
    return recipe.model_copy(update=changes)


def parse_only(text: str, sweep: Sweep) -> tuple[str, Any]:
    """`axis=value` as (axis, value).

    Raises:
        ConfigError: no such axis, or the axis never takes the value.
    """
    key, sign, value_text = text.partition("=")
    if not sign or key not in sweep.axes:
        raise ConfigError([f"--only {text}: expected axis=value; {nearest(key, list(sweep.axes))}"])
    values = sweep.values[key]
    # Names of variants are words as they stand; other values are read as the sweep's file is.
    value = value_text if value_text in values else parse_yaml(value_text, f"--only {text}")
    if value not in values:
        raise ConfigError([f"--only {text}: the axis takes the values {list(values)}"])
    return key, value
