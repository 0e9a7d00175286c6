"""Sweeps that a command line asks for: axes that are added to an experiment, or to a recipe without an experiment's file."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import JsonValue, ValidationError

from tadp_ray.config.cell import grid, recipe_at
from tadp_ray.config.errors import ConfigError
from tadp_ray.config.experiment import Experiment
from tadp_ray.config.load import check_key, load_recipe_values, read_yaml, validate
from tadp_ray.config.metrics import main_metric, metric_title
from tadp_ray.config.resolve import ExperimentFiles, ResolvedExperiment, check_table
from tadp_ray.config.shipped import shipped
from tadp_ray.config.sweep import Sweep
from tadp_ray.config.values import last_part, text_of
from tadp_ray.config.vocabulary import METRIC, Scale
from tadp_ray.config.yaml12 import parse_yaml

AXIS = "--axis"
NAME = re.compile(r"\w[\w .-]*")
"""Names of sweeps, which become names of folders."""
NAME_LENGTH = 100
"""Of a name that is made from axes, in characters."""


def parse_axis(text: str) -> tuple[str, tuple[JsonValue, ...]]:
    """Parse `key=value,value`; a value is YAML, such as 0.5, none or [1, 50].

    Raises:
        ConfigError: there is no "=", no recipe has the key, or the values are not YAML.
    """
    key, sign, values = text.partition("=")
    if not sign or not values.strip():
        raise ConfigError([f"{AXIS} {text}: expected key=value,value, e.g. model.timestep=1,50,200"])
    check_key(key.strip(), f"{AXIS} {text}")
    return key.strip(), tuple(parse_yaml(f"[{values}]", f"{AXIS} {text}"))


def parse_axes(texts: Sequence[str]) -> dict[str, tuple[JsonValue, ...]]:
    """Parse the axes of a command line (ConfigError names a text that is wrong, or a key that is given twice)."""
    axes: dict[str, tuple[JsonValue, ...]] = {}
    for text in texts:
        key, values = parse_axis(text)
        if key in axes:
            raise ConfigError([f"{AXIS} {text}: {key} is given twice; name all its values in one"])
        axes[key] = values
    return axes


def make_sweep(axes: Mapping[str, Any]) -> Sweep:
    """Return the sweep of axes (ConfigError if one has no values, or a value twice)."""
    return validate(Sweep, {"axes": dict(axes)}, lambda _: AXIS)


def with_axes(source: ResolvedExperiment, texts: Sequence[str]) -> ResolvedExperiment:
    """Return an experiment with further axes at all scales, which become rows of its table.

    The published numbers and the claims are of the table without them, and are left out.

    Raises:
        ConfigError: an axis is wrong, or the experiment has it already.
    """
    added, sweeps = parse_axes(texts), {}
    for scale, (file, sweep) in source.sweeps.items():
        for key in added:
            # An axis may set a whole group, or a part of one.
            near = [own for own in sweep.keys if f"{own}.".startswith(f"{key}.") or f"{key}.".startswith(f"{own}.")]
            if near:
                raise ConfigError([f"{AXIS} {key}: {file} varies {min(near)} already; select its values with --only"])
        sweeps[scale] = file, make_sweep({**sweep.axes, **added})
    table = source.experiment.table
    table = table.model_copy(update={"rows": (*table.rows, *added), "published": None})
    experiment = source.experiment.model_copy(update={"table": table, "claims": ()})
    return replace(source, experiment=experiment, sweeps=sweeps, added=tuple(added))


def without_file(recipe: Path, texts: Sequence[str], overrides: Sequence[str]) -> tuple[Scale, ResolvedExperiment]:
    """Return the scale of a recipe, and an experiment that varies axes of it. Its table has the first axis as rows.

    The second axis is the columns, and further ones are in the rows.

    Raises:
        ConfigError: an axis or a value is wrong.
    """
    sweep = make_sweep(parse_axes(texts))
    (first, *others), raw = list(sweep.axes), load_recipe_values(recipe, overrides)
    changes = sweep.changes(grid(sweep)[0])
    one = recipe_at(*raw, changes, {key: f"{AXIS} {key}={text_of(value)}" for key, value in changes.items()})
    metric, named = main_metric(one.task), " and ".join(sweep.axes)
    table = {
        "title": f"{recipe.stem}: {metric_title(metric)} by {named}",
        "metrics": [metric],
        "rows": [first, *others[1:]],
        "columns": others[:1] or [METRIC],
    }
    values = {
        "question": f"How does {named} change what {recipe.stem} reaches?",
        "recipes": {one.scale: str(recipe)},
        "sweep": AXIS,
        "seeds": [0],
        "table": table,
    }
    experiment = validate(Experiment, values, lambda _: AXIS)
    source = ResolvedExperiment(
        Path(AXIS), experiment, {one.scale: (Path(AXIS), sweep)}, ExperimentFiles(), tuple(sweep.axes)
    )
    check_table(source, one.scale)
    return one.scale, source


def sweep_name(stem: str, axes: Sequence[str]) -> str:
    """Return the name of a sweep without a file of its own: of an experiment or a recipe, and the last parts of its axes."""
    return "-".join([stem, *map(last_part, axes)])[:NAME_LENGTH].rstrip("-. ")


def check_name(name: str) -> str:
    """Return a name given to a sweep.

    Raises:
        ConfigError: it cannot name a folder, or is that of a shipped experiment, whose file `table` would read.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(
            [f"--name {name}: expected letters, digits, spaces, dots, dashes and underscores, e.g. my_question"]
        )
    if name in shipped("experiments"):
        raise ConfigError([f"--name {name}: a shipped experiment is called so; choose another name"])
    for file in (Path(f"{name}.yaml"), Path("experiments", f"{name}.yaml")):
        if file.is_file() and "table" in read_yaml(file):
            raise ConfigError([f"--name {name}: the experiment {file} is called so; choose another name"])
    return name


def layout_record(source: ResolvedExperiment, scale: Scale, command: str) -> dict[str, Any]:
    """Return what a table needs of its experiment beside its cells, as JSON values; `experiment_of` reads it."""
    return {
        "experiment": source.experiment.model_dump(mode="json"),
        "axes": source.sweep_at(scale)[1].model_dump(mode="json")["axes"],
        "command": command,
    }


def experiment_of(record: Mapping[str, Any], name: str, scale: Scale) -> ResolvedExperiment:
    """Return the experiment of a record of `layout_record`, which belongs to a sweep of this name and scale.

    Raises:
        ValueError: the record is incomplete, or was written by code whose experiments had other keys.
    """
    try:
        experiment = Experiment.model_validate(record["experiment"])
        sweep, command = Sweep.model_validate({"axes": record["axes"]}), str(record["command"])
    except (KeyError, TypeError, ValidationError) as error:
        raise ValueError(f"the layout of its table is unreadable ({type(error).__name__})") from None
    sweeps = {scale: (Path(AXIS), sweep)}
    return ResolvedExperiment(Path(f"{name}.yaml"), experiment, sweeps, ExperimentFiles(), command=command)
