"""Turns an experiment, or a recipe, into a plan. Does not import Ray."""

import itertools
import shlex
from collections.abc import Hashable, Sequence
from pathlib import Path

from tadp_ray.config.asked import check_name, parse_axes, sweep_name, with_axes, without_file
from tadp_ray.config.cell import Cell, grid, recipe_at
from tadp_ray.config.errors import ConfigError
from tadp_ray.config.experiment import Experiment
from tadp_ray.config.load import load_recipe, load_recipe_values
from tadp_ray.config.metrics import known_metrics, missing_evaluation, tasks_with, unknown_metric
from tadp_ray.config.recipe import Recipe
from tadp_ray.config.resolve import ResolvedExperiment, experiment_name, load_experiment
from tadp_ray.config.shipped import name_of
from tadp_ray.config.vocabulary import Scale
from tadp_ray.data.datasets import Datasets, class_names, thing_names
from tadp_ray.errors import UserError
from tadp_ray.sweep.choices import Choices, check_varied, checked_seeds, settings_text
from tadp_ray.sweep.inputs import absent_prerequisites, cell_inputs, with_absolute_paths
from tadp_ray.sweep.plan import ExperimentPlan, Plan
from tadp_ray.tasks.per_image import AreaImages, images_class


def choose(file: Path | None, scale: Scale, recipe: Path | None, choices: Choices) -> ExperimentPlan:
    """Return the plan of an experiment's file, or without one of a recipe at the axes of the choices.

    Raises:
        UserError: neither an experiment nor a recipe with axes is named; else as `plan_file`.
    """
    if choices.name and not choices.axes:
        raise UserError(f"--name {choices.name}: names a sweep with --axis; an experiment has the name of its file")
    if file is not None:
        return plan_file(file, scale, recipe, choices)
    if recipe is not None and choices.axes:
        return plan_axes(recipe, scale, choices)
    if recipe is not None:
        raise UserError(
            f"--recipe {recipe.stem}: what is to vary? Add --axis KEY=VALUE,VALUE; to train it once: tadp-ray train "
            f"{shlex.quote(str(recipe))}"
        )
    raise UserError(
        "name an experiment (`tadp-ray ls experiments` lists them), or ask without one: tadp-ray sweep --recipe RECIPE --axis "
        "KEY=VALUE,VALUE"
    )


def plan_file(file: Path, scale: Scale, recipe: Path | None, choices: Choices) -> ExperimentPlan:
    """Return the plan of an experiment's file; `recipe` replaces the experiment's own.

    Raises:
        ConfigError: the files or the texts are invalid; lists every error of a file.
        UserError: data, weights or caption stores are missing.
    """
    source, name = load_experiment(file), experiment_name(file, recipe)
    if choices.axes:
        source, name = with_axes(source, choices.axes), sweep_name(name, [*parse_axes(choices.axes)])
    words = [name_of(file, "experiments"), *(["--scale", scale] * (scale != "pocket"))]
    words += ["--recipe", name_of(recipe, "recipes")] if recipe else []
    return plan_experiment(source, scale, name, recipe or source.recipe_file(scale), file.parent, words, choices)


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
    experiment, (_, sweep) = source.experiment, source.sweep_at(scale)
    seeds = experiment.seeds if choices.seeds is None else checked_seeds(choices.seeds)
    name = check_name(choices.name) if choices.name else name
    check_choices(choices, source, scale)
    wanted = choices.wanted(sweep)
    raw, origins = load_recipe_values(recipe, choices.overrides)
    places = grid(sweep)
    recipes = [recipe_at(raw, origins, sweep.changes(axes), source.set_by(scale, axes)) for axes in places]
    chosen = [all(axes[key] in values for key, values in wanted.items()) for axes in places]
    cells, selected, hashed, datasets = [], [], {}, Datasets(recipes[0].compute.folder)
    check_results(source.file, experiment, recipe, recipes)
    absent = absent_prerequisites([*itertools.compress(recipes, chosen)], experiments, choices.dry, experiment.needs)
    not_needed: dict[Hashable, str] = {}
    for axes, at_axes, is_chosen in zip(places, recipes, chosen, strict=True):
        resolved = with_absolute_paths(at_axes)
        contents = cell_inputs(resolved, datasets, hashed, absent if is_chosen else not_needed)
        one = Cell(experiment=name, seed=0, axes=axes, recipe=resolved, **contents)
        own = [one.with_seed(seed) for seed in seeds]
        cells += own
        selected += own if is_chosen else []
    settings = settings_text(recipe, choices.overrides)
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


def check_choices(choices: Choices, source: ResolvedExperiment, scale: Scale) -> None:
    """Check the axes and the overrides of a sweep (ConfigError if they do not go together)."""
    axes_file, sweep = source.sweep_at(scale)
    if compute := next((key for key in sweep.keys if f"{key}.".startswith("compute.")), None):
        place = source.set_by(scale, grid(sweep)[0])[compute]
        raise ConfigError(
            [f"{place}: {compute}: compute keys say where and how fast cells are trained, and cannot be an axis"]
        )
    for text in choices.overrides:
        check_varied(text, sweep, axes_file)


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
