"""Turns an experiment into a list of cells to train. Does not import Ray."""

import itertools
import logging
import shlex
from collections.abc import Callable, Container, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tadp_ray.config.asked import check_name, layout_record, parse_axes, sweep_name, with_axes, without_file
from tadp_ray.config.cell import Cell, grid, recipe_at
from tadp_ray.config.errors import ConfigError, nearest
from tadp_ray.config.experiments import ResolvedExperiment, experiment_name, load_experiment
from tadp_ray.config.fingerprint import sha256_of
from tadp_ray.config.load import load_recipe, load_recipe_values
from tadp_ray.config.metrics import known_metrics, missing_evaluation, tasks_with, unknown_metric
from tadp_ray.config.schema import Experiment, Recipe, Sweep
from tadp_ray.config.search import Search
from tadp_ray.config.shipped import name_of
from tadp_ray.config.table import TableSpec
from tadp_ray.config.values import headings_of, last_part, meant
from tadp_ray.config.vocabulary import Scale
from tadp_ray.data.datasets import Datasets, class_names, remarks, thing_names
from tadp_ray.data.files import FileDataset
from tadp_ray.errors import UserError
from tadp_ray.sweep.inputs import absent_prerequisites, cell_inputs, with_absolute_paths
from tadp_ray.sweep.known import Known, key_of
from tadp_ray.tasks.per_image import AreaImages, images_class
from tadp_ray.tracking.names import check_classes
from tadp_ray.training.digests import all_hashed

if TYPE_CHECKING:
    from tadp_ray.training.setup import Cache

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
    absent: tuple[str, ...] = ()
    """What cells need and is missing, in words: of a plan without data, weights or captions alone."""

    @property
    def layout(self) -> dict[str, Any] | None:
        """What a table of the cells needs beside them; None: they fill no table."""
        return None

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
        """Log warnings about the data that are there, and about a precision in which this machine is slow."""
        recipes = [cell.recipe for cell in self.cells if all_hashed(cell)]
        for data in {own.data: None for own in recipes}:
            for line in remarks(data, *(self.datasets.open(data, split) for split in ("train", "val"))):
                log.warning(line)
        for data, limit in {(own.data, getattr(own.model.head, "max_depth", None)): None for own in recipes}:
            scored = self.datasets.open(data, "val")
            deepest = scored.greatest if isinstance(scored, FileDataset) else None
            if limit and deepest and deepest > limit:
                log.warning(
                    f"model.head.max_depth={limit:g}: scored images are {deepest:.4g} m deep, and what is beyond {limit:g} m is "
                    "neither predicted nor scored; raise it, unless this is meant"
                )
        if any(cell.recipe.schedule.precision == "bfloat16" and not cell.recipe.compute.gpus for cell in self.cells):
            # They take seconds to import.
            import torch

            from tadp_ray.training.precision import fast_bfloat16

            if not fast_bfloat16(torch.device("cpu")):
                log.warning(
                    "schedule.precision=bfloat16: a CPU without AVX-512, like this one, takes many times as long as in "
                    "float32; use float32, unless this is meant"
                )

    def new_cache(self) -> "Cache":
        """Return an empty cache of what cells share, with this plan's data sets."""
        # It takes seconds to import, which a finished sweep and one with invalid files do not need.
        from tadp_ray.training.setup import Cache

        return Cache(self.datasets)

    def check(self, cells: Sequence[Cell], cache: Callable[[], "Cache"] | None = None) -> None:
        """Open the data, make the prompts and build the heads of cells before they are trained.

        Of cells that differ in their seeds alone, the first is checked. A seed decides where the text encoder's limit cuts a
        caption, and so at most whether a precision and a recall near that limit can be met. Every cell checks itself as it
        starts, too. What an earlier command has checked is not checked again.

        Args:
            cells: selected cells, whose data, captions and weights are there.
            cache: returns the cache to use, if anything has to be checked. None: a new one, which is given back at the end, since
                the 4 GiB of Stable Diffusion 1.5 belong to those who train.

        Raises:
            UserError: the first problem found.
        """
        known, firsts = Known(), dict[str, Cell]()
        for cell in cells:
            firsts.setdefault(cell.group, cell)
        left = {key: cell for cell in firsts.values() if (key := key_of("check", cell)) not in known}
        if not left:
            return
        # As in `new_cache`.
        from tadp_ray.training.check import check_head, check_setup
        from tadp_ray.training.setup import TrainSetup

        shared = (cache or self.new_cache)()
        for key, cell in left.items():
            try:
                check_classes(class_names(cell.recipe.data))
                setup = TrainSetup(cell.recipe, cell.seed, cache=shared)
                check_setup(setup)
                check_head(setup)
            except UserError as error:
                raise UserError(f"cell {cell.name}: {error}") from None
            known[key] = True


@dataclass(frozen=True, kw_only=True)
class ExperimentPlan(Plan):
    """One experiment at one scale: every cell of its table."""

    source: ResolvedExperiment
    """The experiment's parsed files, or what a command line asks for in their place."""
    table: TableSpec
    """The table that the cells fill, which gives each cell's (row, column)."""
    command: str
    """That runs the same sweep."""

    @property
    def layout(self) -> dict[str, Any]:
        """What the table needs beside its cells, so that it can be made again without the files."""
        return layout_record(self.source, self.scale, self.command)


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What a command line chooses of an experiment or a recipe."""

    overrides: Sequence[str] = ()
    """`key=value` texts that override the recipe."""
    seeds: Sequence[int] | None = None
    """None: the experiment's."""
    only: Sequence[str] = ()
    """`axis=value` texts; select cells that have one of the given values on every given axis."""
    axes: Sequence[str] = ()
    """`key=value,value` texts: further axes."""
    name: str | None = None
    """Of a sweep with axes of the command line; None: made from them."""
    dry: bool = False
    """Whether to plan without data, weights and captions that are missing, and to name them (`Plan.absent`)."""

    @property
    def words(self) -> list[str]:
        """The same choices as words of a command, but for `only` and `dry`, which change no table."""
        words = [word for text in self.axes for word in ("--axis", text)]
        words += ["--name", self.name] if self.name else []
        words += ["--seeds", ",".join(map(str, self.seeds))] if self.seeds is not None else []
        return words + [word for text in self.overrides for word in ("--set", text)]


def make_plan(
    file: Path,
    scale: Scale,
    *,
    recipe: Path | None = None,
    overrides: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
    only: Sequence[str] = (),
    axes: Sequence[str] = (),
    name: str | None = None,
    dry: bool = False,
) -> ExperimentPlan:
    """Return the plan of an experiment file.

    Args:
        file: the experiment.
        scale: which of its recipes.
        recipe: a recipe file that replaces the experiment's own.
        overrides: `key=value` texts that override the recipe.
        seeds: replace the experiment's.
        only: `axis=value` texts; select cells that have one of the given values on every given axis.
        axes: `key=value,value` texts; axes that are added to the experiment's.
        name: of the sweep with these axes; None: made from the experiment's and theirs.
        dry: plan without data, weights and captions that are missing, too, and name them (`Plan.absent`).

    Raises:
        ConfigError: the files or the texts are invalid; lists every error of a file.
        UserError: data, weights or caption stores are missing.
    """
    choices = Choices(overrides=overrides, seeds=seeds, only=only, axes=axes, name=name, dry=dry)
    source, whole_name = load_experiment(file), experiment_name(file, recipe)
    if axes:
        source, whole_name = with_axes(source, axes), sweep_name(whole_name, [*parse_axes(axes)])
    words = [name_of(file, "experiments"), *(["--scale", scale] * (scale != "pocket"))]
    words += ["--recipe", name_of(recipe, "recipes")] if recipe else []
    recipe = recipe or source.recipe_file(scale)
    return plan_experiment(source, scale, whole_name, recipe, file.parent, words, choices)


def choose(file: Path | None, scale: Scale, recipe: Path | None, choices: Choices) -> ExperimentPlan:
    """Return the plan of an experiment's file, or without one of a recipe at the axes of the choices.

    Raises:
        UserError: neither an experiment nor a recipe with axes is named; else as `make_plan`.
    """
    if choices.name and not choices.axes:
        raise UserError(f"--name {choices.name}: names a sweep with --axis; an experiment has the name of its file")
    if file is not None:
        return make_plan(file, scale, recipe=recipe, **vars(choices))
    if recipe is not None and choices.axes:
        return plan_axes(recipe, scale, choices)
    if recipe is not None:
        raise UserError(
            f"--recipe {recipe.stem}: what is to vary? Add --axis KEY=VALUE,VALUE; to train it once: tadp-ray train {recipe}"
        )
    raise UserError(
        "name an experiment (`tadp-ray ls experiments` lists them), or ask without one: tadp-ray sweep --recipe RECIPE --axis "
        "KEY=VALUE,VALUE"
    )


def plan_axes(recipe: Path, asked: Scale, choices: Choices) -> ExperimentPlan:
    """Return the plan of a recipe at the axes of a command line, without an experiment's file.

    Raises:
        ConfigError: the recipe or the texts are invalid; lists every error of a file.
        UserError: the paper's scale is asked for, and the recipe is not of it; data, weights or caption stores are missing.
    """
    scale, source = without_file(recipe, choices.axes, choices.overrides)
    if asked == "paper" and scale != asked:
        raise UserError(
            f"--scale {asked}: --recipe {recipe.stem} is of the {scale} scale; leave --scale out, or name another"
        )
    name, words = sweep_name(recipe.stem, [*parse_axes(choices.axes)]), ["--recipe", name_of(recipe, "recipes")]
    return plan_experiment(source, scale, name, recipe, recipe.parent.parent, words, choices)


def plan_experiment(
    source: ResolvedExperiment,
    scale: Scale,
    name: str,
    recipe: Path,
    experiments: Path,
    words: Sequence[str],
    choices: Choices,
) -> ExperimentPlan:
    """Return the plan of an experiment that was read or made.

    Args:
        source: the experiment.
        scale: which of its sweeps.
        name: of the sweep, if the choices have none.
        recipe: file of the recipe.
        experiments: as for `missing_prerequisites`.
        words: of a command that runs this sweep, without those of the choices.
        choices: of the command line.
    """
    experiment, overrides, seeds = source.experiment, choices.overrides, choices.seeds
    if seeds is not None and len({*seeds}) < len(seeds):
        raise ConfigError([f"seeds: {list(seeds)} names one twice, so that its cells would count twice"])
    name = check_name(choices.name) if choices.name else name
    axes_file, sweep = source.sweep_at(scale)
    compute_axes = [key for key in sweep.keys if f"{key}.".startswith("compute.")]
    if compute_axes:
        raise ConfigError(
            [
                f"{source.set_by(scale, grid(sweep)[0])[compute_axes[0]]}: {compute_axes[0]}: compute keys say where and how "
                "fast cells are trained, and cannot be an axis"
            ]
        )
    for text in overrides:
        check_varied(text, sweep, axes_file)
    wanted: dict[str, list[Any]] = {}
    for key, value in (parse_only(text, sweep) for text in choices.only):
        wanted.setdefault(key, []).append(value)
    raw, origins = load_recipe_values(recipe, overrides)
    recipes = [recipe_at(raw, origins, sweep.changes(axes), source.set_by(scale, axes)) for axes in grid(sweep)]
    cells, hashed, datasets = [], {}, Datasets(recipes[0].compute.folder)
    check_results(source.file, experiment, recipe, recipes)
    absent = absent_prerequisites(recipes, experiments, choices.dry, experiment.needs)
    for axes, at_axes in zip(grid(sweep), recipes, strict=True):
        resolved = with_absolute_paths(at_axes)
        contents = cell_inputs(resolved, datasets, hashed, absent)
        one = Cell(experiment=name, seed=0, axes=axes, recipe=resolved, **contents)
        cells += [one.with_seed(seed) for seed in (experiment.seeds if seeds is None else seeds)]
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
        command=shlex.join(["tadp-ray", "sweep", *words, *choices.words]),
        datasets=datasets,
        absent=tuple(dict.fromkeys((absent or {}).values())),
    )


def plan_one(file: Path, overrides: Sequence[str], seed: int) -> Plan:
    """Return the plan of a recipe file, with one cell.

    Raises:
        ConfigError: the file or the overrides are invalid.
        UserError: data, weights or the caption store are missing.
    """
    return plan_loaded(load_recipe(file, overrides), file, overrides, seed)


def plan_loaded(
    recipe: Recipe,
    file: Path,
    overrides: Sequence[str],
    seed: int,
    datasets: Datasets | None = None,
    dry: bool = False,
) -> Plan:
    """Return the plan of a recipe that was read from a file with these overrides, with one cell.

    `datasets` is a cache of opened data sets; None: a new one. `dry` is that of `Choices`.

    Raises:
        UserError: data, weights or the caption store are missing.
    """
    absent = absent_prerequisites([recipe], file.parent.parent, dry)
    question = f"What does one training with {file.name} reach?"
    return plan_recipe(recipe, file.stem, settings_text(file, overrides), question, seed, datasets, absent)


def plan_recipe(
    recipe: Recipe,
    name: str,
    settings: str,
    question: str,
    seed: int,
    datasets: Datasets | None = None,
    absent: dict[Hashable, str] | None = None,
) -> Plan:
    """Return the plan of a recipe in memory, with one cell of an experiment of this name.

    `datasets` is a cache of opened data sets; None: a new one. `absent` is that of `cell_inputs`.

    Raises:
        UserError: data, weights or the caption store are missing.
    """
    recipe, datasets = with_absolute_paths(recipe), datasets or Datasets(recipe.compute.folder)
    cell = Cell(experiment=name, seed=seed, axes={}, recipe=recipe, **cell_inputs(recipe, datasets, {}, absent))
    missing = tuple(dict.fromkeys((absent or {}).values()))
    return Plan(name, settings, cell.scale, question, (cell,), (cell,), datasets=datasets, absent=missing)


def oracle_line(which: str, sources: Iterable[str]) -> str:
    """Return a line such as `oracle: the captions of all cells use the ground truth ...`."""
    named = ", ".join(sorted(set(sources)))
    return f"oracle: {which} use the ground truth, of scored images too (caption.source: {named})"


def scored_oracle_line(names: Iterable[str]) -> str:
    """Return a line such as `oracle: the further captions template, oracle use the ground truth ...`."""
    return f"oracle: the further captions {', '.join(names)} use the ground truth of the scored images (evaluation.captions)"


def check_results(file: Path, experiment: Experiment, recipe_file: Path, recipes: Sequence[Recipe]) -> None:
    """Raise ConfigError if the figure cannot be drawn of all cells, or if a cell lacks one of the table's metrics."""
    named = name_of(recipe_file, "recipes")
    ask = f"ask without an experiment: tadp-ray sweep --recipe {shlex.quote(named)} --axis KEY=A,B"
    if experiment.figure:
        kind = experiment.figure.kind
        others = [recipe.task for recipe in recipes if not issubclass(images_class(recipe.task), AreaImages)]
        if others:
            raise ConfigError(
                [
                    f"{file}: figure.kind={kind}: needs segmentation, but {named} is of {min(others)}; leave it out, or {ask}"
                ]
            )
    for recipe, metric in itertools.product(recipes, experiment.table.metrics):
        tasks = tasks_with(metric)
        if tasks and recipe.task not in tasks:
            of = f"is of {' and '.join(tasks)}, but {named} is of {recipe.task}"
            raise ConfigError([f"{file}: table.metrics={metric!r}: {of}; {ask}"])
        if problem := unknown_metric(metric, known_metrics(recipe, class_names(recipe.data), thing_names(recipe.data))):
            if lacking := missing_evaluation(metric, recipe.task):
                problem = f"{named} has no {lacking}; add it, or {ask}"
            raise ConfigError([f"{file}: table.metrics={metric!r}: {problem}"])


def check_varied(text: str, sweep: Sweep, file: Path | str) -> None:
    """Raise ConfigError if an override sets what an axis of the sweep sets, too.

    Args:
        text: `key=value`.
        sweep: the sweep.
        file: its name.
    """
    key = key_set_by(text)
    for axis, values in sweep.axes.items():
        if isinstance(values, dict):
            named = [name for name, own in values.items() if f"{key}.".startswith(tuple(f"{each}." for each in own))]
            if named:
                where = f"the axis {axis} sets this key in {', '.join(named)}"
                raise ConfigError([f"--set {text}: {file}: {where}; write the value into a copy of that file"])
        elif f"{key}.".startswith(f"{axis}."):
            raise ConfigError([f"--set {text}: {file} varies this key; select its values with --only"])


def key_set_by(override: str) -> str:
    """Return the key of a `key=value` text."""
    return override.partition("=")[0].strip()


CHANGING_RESULTS = ("compute.cpus", "compute.compile")
"""Compute keys that change the last digits."""


def settings_text(recipe: Path, overrides: Sequence[str]) -> str:
    """Return a recipe's name and its overrides, without the compute keys that do not change results."""
    hidden = lambda key: key.startswith("compute.") and key not in CHANGING_RESULTS
    return ", ".join([f"recipe {recipe.stem}", *(text for text in overrides if not hidden(key_set_by(text)))])


def parse_only(text: str, sweep: Sweep) -> tuple[str, Any]:
    """Parse a value of an axis, as for `meant`.

    Raises:
        ConfigError: there is no such axis, or it does not have the value, or several have it.
    """
    if found := meant(text, sweep.values):
        return found
    name, sign, _ = (part.strip() for part in text.partition("="))
    if not sign:
        raise ConfigError([f"--only {text}: expected axis=value, e.g. {next(iter(sweep.axes))}=VALUE"])
    axes = [axis for axis in sweep.axes if name in (axis, last_part(axis))]
    if not axes:
        raise ConfigError([f"--only {text}: no axis of this sweep; {nearest(name, list(sweep.axes))}"])
    raise ConfigError([f"--only {text}: the values of this axis are {', '.join(headings_of(sweep.values[axes[0]]))}"])
