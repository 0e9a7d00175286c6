"""Loads experiments with their sweeps, and checks tables and claims against them. Each file is read once."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import JsonValue

from tadp_ray.config.claims import EXPERIMENT
from tadp_ray.config.errors import ConfigError, nearest
from tadp_ray.config.experiment import Experiment
from tadp_ray.config.load import load_sweep, read_kind, validate
from tadp_ray.config.metrics import impossible_metric
from tadp_ray.config.shipped import file_of, name_of
from tadp_ray.config.sweep import Sweep
from tadp_ray.config.table import TableSpec
from tadp_ray.config.values import text_of
from tadp_ray.config.vocabulary import METRIC, Scale


@dataclass(frozen=True)
class ResolvedExperiment:
    """An experiment and its sweeps."""

    file: Path
    experiment: Experiment
    sweeps: Mapping[Scale, tuple[Path, Sweep]]
    """File and sweep of each scale."""
    files: "ExperimentFiles" = field(repr=False, compare=False)
    """Reads the other experiments that claims name."""
    added: tuple[str, ...] = ()
    """Axes of the command line, by their keys, that the sweeps have in addition to their files."""
    command: str = ""
    """That runs the sweep of an experiment without a file; empty: it has one."""

    def sweep_at(self, scale: Scale) -> tuple[Path, Sweep]:
        """Return the file and the sweep of a scale.

        Raises:
            ConfigError: there is none.
        """
        named = self.experiment.sweep
        if isinstance(named, dict) and scale not in named:
            raise ConfigError([f"{self.file}: sweep: none for --scale {scale}; it has {', '.join(named)}"])
        # A sweep without scales also applies to a recipe of another scale (--recipe).
        return self.sweeps.get(scale) or next(iter(self.sweeps.values()))

    def set_by(self, scale: Scale, point: Mapping[str, JsonValue]) -> dict[str, str]:
        """Return what sets each recipe key at one combination of axis values, for errors: `sweep FILE, text=BLIP`."""
        file, sweep = self.sweep_at(scale)
        pairs = {axis: f"{axis}={text_of(value)}" for axis, value in point.items()}
        name = name_of(Path(os.path.normpath(file)), "sweeps")
        row = ", ".join([f"sweep {name}", *(pair for axis, pair in pairs.items() if axis not in self.added)])
        return {
            key: f"--axis {pair}" if axis in self.added else row
            for axis, pair in pairs.items()
            for key in sweep.keys_of(axis)
        }

    def recipe_file(self, scale: Scale) -> Path:
        """Return the file of a scale's recipe.

        Raises:
            ConfigError: there is none.
        """
        recipes = self.experiment.recipes
        if scale not in recipes:
            raise ConfigError([f"{self.file}: recipes: none for --scale {scale}; it has {', '.join(recipes)}"])
        return file_of(recipes[scale], "recipes", self.file)

    def table(self, scale: Scale, cells: Scale, settings: str) -> TableSpec:
        """Return the table at a scale.

        Args:
            scale: of the sweep.
            cells: the scale of the cells, which differs from `scale` if another recipe is used.
            settings: the recipe of the cells and its overrides, as text.
        """
        return TableSpec.of(self.experiment, self.sweep_at(scale)[1], cells, settings)

    def other(self, name: JsonValue) -> "ResolvedExperiment":
        """Return the experiment of a claim: this one for None, or another by its file or its shipped name."""
        return self if name is None else self.files.read(file_of(Path(str(name)), "experiments", self.file))

    @property
    def axes(self) -> dict[str, list[JsonValue]]:
        """The values of every axis of the table at all scales, and its metrics as the axis `metric`."""
        axes: dict[str, list[JsonValue]] = {METRIC: list(self.experiment.table.metrics)}
        for _, sweep in self.sweeps.values():
            for key, values in sweep.values.items():
                axes.setdefault(key, []).extend(values)
        return axes


class ExperimentFiles:
    """Reads experiments and sweeps, each file once. Each command has its own instance."""

    def __init__(self) -> None:
        self._experiments: dict[Path, ResolvedExperiment] = {}
        self._sweeps: dict[Path, Sweep] = {}

    def load(self, path: Path) -> ResolvedExperiment:
        """Read an experiment and check it.

        The metrics must exist, the table must use every axis of the sweep once and have a published number for each of its
        cells, if any, and the claims must select existing cells.

        Raises:
            ConfigError: a check fails, or a file is invalid.
        """
        resolved = self.read(path)
        check_claims(resolved)
        return resolved

    def read(self, path: Path) -> ResolvedExperiment:
        """Read an experiment and check it, except for its claims."""
        place = path.resolve()
        if place not in self._experiments:
            experiment = validate(Experiment, read_kind(path, "experiments"), lambda _: str(path))
            check_metrics(path, experiment)
            files = {scale: file_of(experiment.sweep_file(scale), "sweeps", path) for scale in experiment.recipes}
            sweeps = {scale: (file, self.sweep(file)) for scale, file in files.items()}
            resolved = ResolvedExperiment(path, experiment, sweeps, self)
            for scale in experiment.recipes:
                check_table(resolved, scale)
            self._experiments[place] = resolved
        return self._experiments[place]

    def sweep(self, path: Path) -> Sweep:
        """Read a sweep, see `load_sweep`."""
        place = path.resolve()
        if place not in self._sweeps:
            self._sweeps[place] = load_sweep(path)
        return self._sweeps[place]


def load_experiment(path: Path) -> ResolvedExperiment:
    """Read an experiment and check it, see `ExperimentFiles.load`."""
    return ExperimentFiles().load(path)


def experiment_name(file: Path, recipe: Path | None) -> str:
    """Return the name of an experiment in MLflow and on disk. With another recipe it is a separate experiment."""
    return file.stem if recipe is None else f"{file.stem}-{recipe.stem}"


def check_metrics(path: Path, experiment: Experiment) -> None:
    """Check that some recipe can have each of the table's metrics (else ConfigError)."""
    wrong = {metric: impossible_metric(metric) for metric in experiment.table.metrics}
    if lines := [f"{path}: table.metrics={metric!r}: {problem}" for metric, problem in wrong.items() if problem]:
        raise ConfigError(lines)


def check_claims(resolved: ResolvedExperiment) -> None:
    """Check that every claim selects existing cells of its table or of another experiment's (else ConfigError)."""
    for number, claim in enumerate(resolved.experiment.claims):
        where = f"{resolved.file}: claims[{number}]"
        for places in claim.places:
            axes = resolved.other(places.get(EXPERIMENT)).axes
            wanted = {key: values for key, values in places.items() if key != EXPERIMENT}
            for key in (*wanted, *getattr(claim, "along", ())):
                if key not in axes:
                    raise ConfigError([f"{where}: {key!r}: not an axis of the table; {nearest(key, list(axes))}"])
            for key, values in wanted.items():
                for value in values if isinstance(values, list) else [values]:
                    if value not in axes[key]:
                        known = [*map(str, axes[key])]
                        raise ConfigError([f"{where}: {key}={value!r}: not on that axis; {nearest(str(value), known)}"])


def check_table(resolved: ResolvedExperiment, scale: Scale) -> None:
    """Check that the table fits the sweep of a scale (else ConfigError)."""
    path, table, named = resolved.file, resolved.experiment.table, resolved.experiment.sweep_file(scale)
    axes = table.sides(resolved.sweep_at(scale)[1].values)
    keys = [*table.rows, *table.columns]
    lines = [
        f"{path}: table.rows, columns: {key!r}: not an axis of {named}; {nearest(key, list(axes))}"
        for key in keys
        if key not in axes
    ]
    if not lines and sorted(keys) != sorted(axes):
        lines.append(f"{path}: table.rows, columns: every axis of {named} must be named once: {', '.join(axes)}")
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
