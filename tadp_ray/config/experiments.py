"""Experiments with all that their files name. Each file is read once, and checked against the others."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import JsonValue

from tadp_ray.config.claims import EXPERIMENT
from tadp_ray.config.errors import ConfigError, nearest
from tadp_ray.config.load import load_sweep, read_yaml, validate
from tadp_ray.config.metrics import impossible_metric
from tadp_ray.config.schema import Experiment, Sweep
from tadp_ray.config.shipped import file_of
from tadp_ray.config.table import TableSpec
from tadp_ray.config.vocabulary import METRIC, Scale


@dataclass(frozen=True)
class ResolvedExperiment:
    """An experiment and its sweeps."""

    file: Path
    experiment: Experiment
    sweeps: Mapping[Scale, tuple[Path, Sweep]]
    """The sweep of each scale, behind its file."""
    files: "ExperimentFiles" = field(repr=False, compare=False)
    """What read them, and reads the experiments that claims name."""

    def sweep_at(self, scale: Scale) -> tuple[Path, Sweep]:
        """The sweep of a scale, behind its file.

        Raises:
            ConfigError: there is none.
        """
        named = self.experiment.sweep
        if isinstance(named, dict) and scale not in named:
            raise ConfigError([f"{self.file}: sweep: none for --scale {scale}; it has {', '.join(named)}"])
        # One sweep for all scales serves a recipe of any scale that is swapped in.
        return self.sweeps.get(scale) or next(iter(self.sweeps.values()))

    def recipe_file(self, scale: Scale) -> Path:
        """The file of a scale's recipe.

        Raises:
            ConfigError: there is none.
        """
        recipes = self.experiment.recipes
        if scale not in recipes:
            raise ConfigError([f"{self.file}: recipes: none for --scale {scale}; it has {', '.join(recipes)}"])
        return file_of(recipes[scale], "recipes", self.file)

    def table(self, scale: Scale, cells: Scale, settings: str) -> TableSpec:
        """The table that is asked for at a scale.

        Args:
            scale: which of the sweeps.
            cells: the scale of the cells that fill it; another recipe than the experiment's may be of another one.
            settings: theirs, in words.
        """
        return TableSpec.of(self.experiment, self.sweep_at(scale)[1], cells, settings)

    def other(self, name: JsonValue) -> "ResolvedExperiment":
        """The experiment that a claim means: this one (None), or another by its file or its shipped name."""
        return self if name is None else self.files.read(file_of(Path(str(name)), "experiments", self.file))

    @property
    def axes(self) -> dict[str, list[JsonValue]]:
        """What stands along the sides of the table, at all scales, by axis; its metrics are one."""
        axes: dict[str, list[JsonValue]] = {METRIC: list(self.experiment.table.metrics)}
        for _, sweep in self.sweeps.values():
            for key, values in sweep.values.items():
                axes.setdefault(key, []).extend(values)
        return axes


class ExperimentFiles:
    """Reads experiments and sweeps, each file once. One object serves one command."""

    def __init__(self) -> None:
        self._experiments: dict[Path, ResolvedExperiment] = {}
        self._sweeps: dict[Path, Sweep] = {}

    def load(self, path: Path) -> ResolvedExperiment:
        """The experiment in `path`.

        Its table names metrics, and axes of its sweep, and prints a number for each of their values; its claims are about
        places that tables have.

        Raises:
            ConfigError: it does not, or a file is wrong.
        """
        found = self.read(path)
        check_claims(found)
        return found

    def read(self, path: Path) -> ResolvedExperiment:
        """The same, its claims aside."""
        place = path.resolve()
        if place not in self._experiments:
            experiment = validate(Experiment, read_yaml(path), lambda _: str(path))
            check_metrics(path, experiment)
            files = {scale: file_of(experiment.sweep_at(scale), "sweeps", path) for scale in experiment.recipes}
            sweeps = {scale: (file, self.sweep(file)) for scale, file in files.items()}
            found = ResolvedExperiment(path, experiment, sweeps, self)
            for scale in experiment.recipes:
                check_table(found, scale)
            self._experiments[place] = found
        return self._experiments[place]

    def sweep(self, path: Path) -> Sweep:
        """The sweep in `path`, each axis naming keys that recipes have."""
        place = path.resolve()
        if place not in self._sweeps:
            self._sweeps[place] = load_sweep(path)
        return self._sweeps[place]


def load_experiment(path: Path) -> ResolvedExperiment:
    """The experiment in `path`, see `ExperimentFiles.load`."""
    return ExperimentFiles().load(path)


def experiment_name(file: Path, recipe: Path | None = None) -> str:
    """What an experiment is called in MLflow and on disk; with a recipe swapped in it is an experiment of its own."""
    return file.stem if recipe is None else f"{file.stem}-{recipe.stem}"


def check_metrics(path: Path, experiment: Experiment) -> None:
    """Refuse metrics that no recipe has (ConfigError)."""
    wrong = {metric: impossible_metric(metric) for metric in experiment.table.metrics}
    if lines := [f"{path}: table.metrics={metric!r}: {said}" for metric, said in wrong.items() if said]:
        raise ConfigError(lines)


def check_claims(asked: ResolvedExperiment) -> None:
    """Refuse a claim about places that its table, or that of the experiment that it names, does not have (ConfigError)."""
    for number, claim in enumerate(asked.experiment.claims):
        where = f"{asked.file}: claims[{number}]"
        for places in claim.places:
            axes = asked.other(places.get(EXPERIMENT)).axes
            wanted = {key: values for key, values in places.items() if key != EXPERIMENT}
            for key in (*wanted, *getattr(claim, "along", ())):
                if key not in axes:
                    raise ConfigError([f"{where}: {key!r}: not an axis of the table; {nearest(key, list(axes))}"])
            for key, values in wanted.items():
                for value in values if isinstance(values, list) else [values]:
                    if value not in axes[key]:
                        known = [*map(str, axes[key])]
                        raise ConfigError([f"{where}: {key}={value!r}: not on that axis; {nearest(str(value), known)}"])


def check_table(asked: ResolvedExperiment, scale: Scale) -> None:
    """Refuse a table that does not fit the sweep of a scale (ConfigError)."""
    path, table, named = asked.file, asked.experiment.table, asked.experiment.sweep_at(scale)
    axes = table.sides(asked.sweep_at(scale)[1].values)
    keys = [*table.rows, *table.columns]
    lines = [
        f"{path}: table.rows, columns: {key!r}: not an axis of {named}; {nearest(key, list(axes))}"
        for key in keys
        if key not in axes
    ]
    if not lines and sorted(keys) != sorted(axes):
        lines.append(f"{path}: table.rows, columns: every axis of {named} must stand there once: {', '.join(axes)}")
    if table.published and not lines:
        shape = [len(row) for row in table.published.values]
        width, height = (math.prod(len(axes[key]) for key in side) for side in (table.columns, table.rows))
        if shape != [width] * height:
            lines.append(
                f"{path}: table.published.values: expected {height} rows of {width} numbers "
                f"(the values of {', '.join(table.rows)} x {', '.join(table.columns)}), found rows of {shape}"
            )
    if lines:
        raise ConfigError(lines)
