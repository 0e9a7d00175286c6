"""What a command line chooses of an experiment or a recipe. Does not import Ray."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tadp_ray.config.errors import ConfigError, nearest
from tadp_ray.config.sweep import Sweep
from tadp_ray.config.values import headings_of, last_part, meant
from tadp_ray.config.vocabulary import seeds_of


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

    def wanted(self, sweep: Sweep) -> dict[str, list[Any]]:
        """Return the values that `only` selects, by axis."""
        values: dict[str, list[Any]] = {}
        for key, value in (parse_only(text, sweep) for text in self.only):
            values.setdefault(key, []).append(value)
        return values


def checked_seeds(seeds: Sequence[int]) -> tuple[int, ...]:
    """Return seeds as Python's integers (ConfigError if they are none, or one is named twice)."""
    try:
        return seeds_of(seeds)
    except ValueError as error:
        raise ConfigError([f"seeds={seeds!r}: {error}"]) from None


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
                mend = "write the value into a copy of that file, or link the folder or file to that path"
                raise ConfigError([f"--set {text}: {file}: {where}; {mend}"])
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
