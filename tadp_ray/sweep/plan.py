"""Turns an experiment into a list of cells to train. Does not import Ray."""

import itertools
import logging
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tadp_ray.backbones.families import family_of
from tadp_ray.captions.making import missing_stores
from tadp_ray.captions.store import read_store
from tadp_ray.config.cell import Cell, grid, recipe_at
from tadp_ray.config.context import ContextConfig
from tadp_ray.config.data import CaptionConfig
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
from tadp_ray.data.datasets import Datasets, class_names, remarks, thing_names
from tadp_ray.errors import UserError
from tadp_ray.tasks.per_image import AreaImages, images_class
from tadp_ray.tracking.names import check_classes
from tadp_ray.training.digests import KnownDigests, digests_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """Cells that belong together, and those of them that this command selects."""

    name: str
    """The name of the experiment's file, followed by the recipe's if another recipe is used."""
    settings: str
    """The recipe and its overrides."""
    scale: Scale
    """Which of the experiment's recipes and sweeps; a cell has the scale of its data."""
    question: str
    """That the cells answer."""
    cells: tuple[Cell, ...]
    """Every cell of the table: axis values x seeds."""
    selected: tuple[Cell, ...]
    """The cells that `--only` selects; all cells without it."""
    search: Search | None = None
    """When the worse cells are stopped early; None: never."""
    datasets: Datasets = field(default_factory=Datasets, compare=False, repr=False)
    """The data sets that planning has opened."""

    @property
    def recipe(self) -> Recipe:
        """The recipe of the first cell; all cells share its task, data and compute unless an axis varies them."""
        return self.cells[0].recipe

    @property
    def storage(self) -> Path:
        """The folder on this machine with cells, latents and tables."""
        return self.recipe.compute.folder

    @property
    def folder(self) -> Path:
        """The folder of this sweep's table and figures."""
        return self.storage / self.name / self.scale

    @property
    def key(self) -> str:
        """Hash of the table's cells without their seeds: more seeds fill the same table, other settings make another."""
        return sha256_of(sorted({cell.group for cell in self.cells}))

    @property
    def oracle(self) -> str | None:
        """Lines on the captions that use the ground truth, of cells and of further evaluations; None if there are none."""
        oracles, lines = [cell for cell in self.selected if cell.uses_ground_truth], []
        if oracles:
            some = "all" if len(oracles) == len(self.selected) else f"{len(oracles)} of {len(self.selected)}"
            lines.append(oracle_line(f"the captions of {some} cells", [cell.recipe.caption.source for cell in oracles]))
        if scored := dict.fromkeys(name for cell in self.selected for name in cell.oracle_evaluations):
            lines.append(scored_oracle_line(scored))
        return "\n".join(lines) or None

    def missing(self, done: Container[str]) -> list[Cell]:
        """Return the selected cells that are not done; table entries with the same training share one cell."""
        return list({cell.fingerprint: cell for cell in self.selected if cell.fingerprint not in done}.values())

    def warn(self) -> None:
        """Log warnings about the data."""
        for data in {cell.recipe.data: None for cell in self.cells}:
            for line in remarks(*(self.datasets.open(data, split) for split in ("train", "val"))):
                log.warning(line)

    def check(self, cells: Sequence[Cell]) -> None:
        """Open the data, make the prompts and build the heads of cells before they are trained.

        Of cells that differ in their seeds alone, the first is checked. A seed decides where the text encoder's limit cuts a
        caption, and so at most whether a precision and a recall near that limit can be met. Every cell checks itself as it
        starts, too.

        Raises:
            UserError: the first problem found.
        """
        # It takes seconds to import, which a finished sweep and one with invalid files do not need.
        from tadp_ray.training.setup import Cache, TrainSetup

        # Given back with this function: Stable Diffusion 1.5 has 4 GiB, which belong to those who train.
        cache = Cache(self.datasets)
        firsts: dict[str, Cell] = {}
        for cell in cells:
            firsts.setdefault(cell.group, cell)
        for cell in firsts.values():
            try:
                check_classes(class_names(cell.recipe.data))
                setup = TrainSetup(cell.recipe, cell.seed, cache=cache)
                setup.check()
                setup.check_head()
            except UserError as error:
                raise UserError(f"cell {cell.name}: {error}") from None


@dataclass(frozen=True, kw_only=True)
class ExperimentPlan(Plan):
    """One experiment at one scale: every cell of its table."""

    source: ResolvedExperiment
    """The experiment's parsed files."""
    table: TableSpec
    """The table that the cells fill, which gives each cell's (row, column)."""


def make_plan(
    file: Path,
    scale: Scale,
    *,
    recipe: Path | None = None,
    overrides: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
    only: Sequence[str] = (),
) -> ExperimentPlan:
    """Return the plan of an experiment file.

    Args:
        file: the experiment.
        scale: which of its recipes.
        recipe: a recipe file that replaces the experiment's own.
        overrides: `key=value` texts that override the recipe.
        seeds: replace the experiment's.
        only: `axis=value` texts; select cells that have one of the given values on every given axis.

    Raises:
        ConfigError: the files or the texts are invalid; lists every error of a file.
        UserError: data, weights or caption stores are missing.
    """
    source = load_experiment(file)
    experiment, name = source.experiment, experiment_name(file, recipe)
    recipe = recipe or source.recipe_file(scale)
    axes_file, sweep = source.sweep_at(scale)
    compute_axes = [key for key in sweep.keys if key.startswith("compute.")]
    if compute_axes:
        raise ConfigError(
            [f"{axes_file}: axes: {compute_axes[0]}: compute keys do not change results and cannot be an axis"]
        )
    prefixes = tuple(f"{key}." for key in sweep.keys)
    conflicts = [text for text in overrides if f"{text.partition('=')[0].strip()}.".startswith(prefixes)]
    if conflicts:
        raise ConfigError([f"--set {conflicts[0]}: {axes_file} varies this key; select its values with --only"])
    raw, origin = load_recipe_values(recipe, overrides)
    recipes = [recipe_at(raw, origin, sweep.changes(axes), f"{axes_file}: axes") for axes in grid(sweep)]
    cells, hashed, datasets = [], {}, Datasets(recipes[0].compute.folder)
    check_results(file, experiment, recipes)
    check_prerequisites(recipes, file.parent)
    for axes, at_axes in zip(grid(sweep), recipes, strict=True):
        resolved = with_absolute_paths(at_axes)
        contents = cell_inputs(resolved, datasets, hashed)
        one = Cell(experiment=name, seed=0, axes=axes, recipe=resolved, **contents)
        cells += [one.with_seed(seed) for seed in (experiment.seeds if seeds is None else seeds)]
    wanted: dict[str, list[Any]] = {}
    for key, value in (parse_only(text, sweep) for text in only):
        wanted.setdefault(key, []).append(value)
    selected = [cell for cell in cells if all(cell.axes[key] in values for key, values in wanted.items())]
    settings = settings_text(recipe, overrides)
    return ExperimentPlan(
        name,
        settings,
        scale,
        experiment.question,
        tuple(cells),
        tuple(selected),
        source=source,
        table=source.table(scale, cells[0].scale, settings),
        datasets=datasets,
    )


def plan_one(file: Path, overrides: Sequence[str], seed: int) -> Plan:
    """Return the plan of a recipe file, with one cell.

    Raises:
        ConfigError: the file or the overrides are invalid.
        UserError: data, weights or the caption store are missing.
    """
    return plan_loaded(load_recipe(file, overrides), file, overrides, seed)


def plan_loaded(
    recipe: Recipe, file: Path, overrides: Sequence[str], seed: int, datasets: Datasets | None = None
) -> Plan:
    """Return the plan of a recipe that was read from a file with these overrides, with one cell.

    `datasets` is a cache of opened data sets; None: a new one.

    Raises:
        UserError: data, weights or the caption store are missing.
    """
    check_prerequisites([recipe], file.parent.parent)
    question = f"What does one training with {file.name} reach?"
    return plan_recipe(recipe, file.stem, settings_text(file, overrides), question, seed, datasets)


def plan_recipe(
    recipe: Recipe, name: str, settings: str, question: str, seed: int, datasets: Datasets | None = None
) -> Plan:
    """Return the plan of a recipe in memory, with one cell of an experiment of this name.

    `datasets` is a cache of opened data sets; None: a new one.

    Raises:
        UserError: data, weights or the caption store are missing.
    """
    recipe, datasets = with_absolute_paths(recipe), datasets or Datasets(recipe.compute.folder)
    cell = Cell(experiment=name, seed=seed, axes={}, recipe=recipe, **cell_inputs(recipe, datasets, {}))
    return Plan(name, settings, cell.scale, question, (cell,), (cell,), datasets=datasets)


PRETRAININGS = {"pocket_dit": "--backbone dit --start pocket", "pocket_seed1": "--seed 1"}
"""Options of the pretraining of each folder of pocket models that shipped experiments use, by the folder's name."""


def check_prerequisites(recipes: Sequence[Recipe], experiments: Path) -> None:
    """Check that the models, tokens and captions that recipes use, and a command makes, exist; name the commands.

    Args:
        recipes: of the cells.
        experiments: a folder that may hold personalization/NAME.yaml, which makes a folder of that name; else the shipped
            personalization of that name does.

    Raises:
        UserError: some are missing.
    """
    places = {Path(place) for recipe in recipes for place in family_of(recipe.model).places(recipe.model).values()}
    needed = {(place, place.parent if place.suffix else place) for place in places}
    missing = []
    for path, folder in sorted(needed):
        if path.exists():
            continue
        if options := PRETRAININGS.get(folder.name):
            missing.append(f"{path} is missing; make it: tadp-ray pocket pretrain {folder} {options}")
        elif maker := personalization_for(folder.name, experiments):
            missing.append(f"{path} is missing; make it: tadp-ray personalize {maker} --out {folder}")
    if missing := [*missing, *missing_stores(recipes)]:
        raise UserError("\n".join(missing))


def personalization_for(name: str, experiments: Path) -> Path | str | None:
    """Return the file or shipped name of the personalization that makes a folder of this name; None if there is none."""
    file = experiments / "personalization" / f"{name}.yaml"
    if file.is_file():
        return file
    return name if name in shipped("personalizations") else None


def oracle_line(which: str, sources: Iterable[str]) -> str:
    """Return a line such as `oracle: the captions of all cells use the ground truth ...`."""
    named = ", ".join(sorted(set(sources)))
    return f"oracle: {which} use the ground truth, of scored images too (caption.source: {named})"


def scored_oracle_line(names: Iterable[str]) -> str:
    """Return a line such as `oracle: the further captions template, oracle use the ground truth ...`."""
    return f"oracle: the further captions {', '.join(names)} use the ground truth of the scored images (evaluation.captions)"


def cell_inputs(recipe: Recipe, datasets: Datasets, known: KnownDigests) -> dict[str, Any]:
    """Return a cell's facts about its recipe's files; the other arguments are those of `digests_of`."""
    return {
        "digests": digests_of(recipe, datasets, known),
        "stores_of_ground_truth": stores_of_ground_truth(recipe),
        "scored_stores_of_ground_truth": scored_stores_of_ground_truth(recipe),
    }


def stores_of_ground_truth(recipe: Recipe) -> bool:
    """Return whether a caption store of a recipe was made from the ground truth."""
    stores = filter(None, (recipe.caption.store, recipe.caption.target_store))
    return any(read_store(store).uses_ground_truth for store in stores)


def scored_stores_of_ground_truth(recipe: Recipe) -> tuple[str, ...]:
    """Return the names of further captions whose store was made from the ground truth."""
    captions = recipe.evaluation.captions.items()
    return tuple(name for name, each in captions if each.store and read_store(each.store).uses_ground_truth)


def check_results(file: Path, experiment: Experiment, recipes: Sequence[Recipe]) -> None:
    """Raise ConfigError if the figure cannot be drawn of all cells, or if a cell lacks one of the table's metrics."""
    if experiment.figure:
        kind = experiment.figure.kind
        others = [recipe.task for recipe in recipes if not issubclass(images_class(recipe.task), AreaImages)]
        if others:
            raise ConfigError(
                [f"{file}: figure.kind={kind}: needs segmentation, but a cell does {min(others)}; leave it out"]
            )
    for recipe, metric in itertools.product(recipes, experiment.table.metrics):
        if problem := unknown_metric(metric, known_metrics(recipe, class_names(recipe.data), thing_names(recipe.data))):
            raise ConfigError([f"{file}: table.metrics={metric!r}: {problem}"])


def settings_text(recipe: Path, overrides: Sequence[str]) -> str:
    """Return a recipe's name and its overrides, without compute keys other than cpus, which do not change results."""
    shown = [text for text in overrides if not text.startswith("compute.") or text.startswith("compute.cpus")]
    return ", ".join([f"recipe {recipe.stem}", *shown])


def with_absolute_paths(recipe: Recipe) -> Recipe:
    """Return the recipe with absolute paths, since Ray's workers start in other folders."""
    changes: dict[str, Any] = {}
    if not recipe.compute.address:
        changes["compute"] = recipe.compute.model_copy(update={"storage": str(recipe.compute.folder)})
    if hasattr(recipe.data, "root"):
        changes["data"] = recipe.data.model_copy(update={"root": recipe.data.root.absolute()})
        if target := getattr(recipe.data, "target_domain", None):
            moved = target.model_copy(update={"root": target.root.absolute()})
            changes["data"] = changes["data"].model_copy(update={"target_domain": moved})
    changes["caption"] = with_absolute_files(recipe.caption)
    told = {name: with_absolute_files(caption) for name, caption in recipe.evaluation.captions.items()}
    changes["evaluation"] = recipe.evaluation.model_copy(update={"captions": told})
    model: dict[str, Any] = {}
    for key in type(recipe.model).model_fields:
        value = getattr(recipe.model, key)
        if isinstance(value, Path):
            model[key] = value.absolute()
        elif key == "weights":
            model[key] = absolute_if_here(value)
    model["context"] = with_absolute_encoders(recipe.model.context)
    changes["model"] = recipe.model.model_copy(update=model)
    return recipe.model_copy(update=changes)


def with_absolute_files(caption: CaptionConfig) -> CaptionConfig:
    """Return captions whose files have absolute paths."""
    files = {key: path for key in ("store", "target_store", "embeddings") if (path := getattr(caption, key))}
    return caption.model_copy(update={key: path.absolute() for key, path in files.items()})


def with_absolute_encoders(context: ContextConfig) -> ContextConfig:
    """Return the context with absolute paths of image encoders."""

    def moved(source: Any) -> Any:
        encoder = getattr(source, "encoder", None)
        return source.model_copy(update={"encoder": absolute_if_here(encoder)}) if encoder else source

    return context.model_copy(update={"sources": tuple(map(moved, context.sources))})


def absolute_if_here(place: str) -> str:
    """Return the absolute path of a file or folder; `pocket`, or what is not here and so perhaps a hub id, unchanged."""
    return str(Path(place).absolute()) if place != "pocket" and Path(place).exists() else place


def parse_only(text: str, sweep: Sweep) -> tuple[str, Any]:
    """Parse `axis=value`.

    Raises:
        ConfigError: there is no such axis, or it does not have the value.
    """
    key, sign, value_text = text.partition("=")
    if not sign or key not in sweep.axes:
        raise ConfigError([f"--only {text}: expected axis=value; {nearest(key, list(sweep.axes))}"])
    values = sweep.values[key]
    # Names of variants are plain text; other values are parsed like the sweep's file.
    value = value_text if value_text in values else parse_yaml(value_text, f"--only {text}")
    if value not in values:
        raise ConfigError([f"--only {text}: the values of this axis are {list(values)}"])
    return key, value
