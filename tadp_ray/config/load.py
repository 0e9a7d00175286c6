"""Loads YAML files into the schema's classes: `extends:` chains, `--set` overrides, and all errors of a file at once."""

import json
import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from tadp_ray.addresses import holds_secret
from tadp_ray.config.analysis import Analysis
from tadp_ray.config.claims import EXPERIMENT
from tadp_ray.config.errors import ConfigError, dotted, explain, has_own_names, nearest, valid_names
from tadp_ray.config.export import KINDS as VOCABULARIES
from tadp_ray.config.metrics import impossible_metric
from tadp_ray.config.model import DEFAULT_BACKBONE, DEFAULT_HEAD, long_form
from tadp_ray.config.personalization import Personalization
from tadp_ray.config.recipe import Recipe
from tadp_ray.config.search import Search
from tadp_ray.config.shipped import KINDS, file_of
from tadp_ray.config.sweep import Sweep
from tadp_ray.config.vocabulary import CREDENTIALS_IN_ADDRESS, METRIC, RESULT_COLUMNS, Scale, StrictModel, expand_home
from tadp_ray.config.yaml12 import parse_yaml, read_text
from tadp_ray.wording import with_article

V = TypeVar("V", bound=StrictModel)
KeyPath = tuple[str | int, ...]
DEFAULT_KINDS = {("model", "backbone"): DEFAULT_BACKBONE, ("head", "kind"): DEFAULT_HEAD}
"""Of groups that need not say theirs."""


def read_yaml(path: Path) -> dict[str, Any]:
    """Read the mapping in a YAML file.

    Raises:
        ConfigError: the file is missing, is not YAML, or contains anything but keys and values.
    """
    if problem := no_file(path):
        raise ConfigError([f"{path}: {problem}"])
    raw = parse_yaml(read_text(path), str(path))
    if not isinstance(raw, dict):
        found = "nothing" if raw is None else "a list" if isinstance(raw, list) else f"{raw!r:.80}"
        raise ConfigError([f"{path}: expected keys and values, found {found}"])
    return raw


def read_kind(path: Path, kind: str) -> dict[str, Any]:
    """Read a file of a kind, a key of `KINDS`.

    Raises:
        ConfigError: it cannot be read (`read_yaml`), or is of another kind; says how to use it.
    """
    raw = read_yaml(path)
    fitting = {name: raw.keys() & {*VOCABULARIES[each.one].model_fields} for name, each in KINDS.items()}
    own, other = fitting[kind], max(fitting, key=lambda name: len(fitting[name]))
    # A file with keys of two kinds has a mistyped key.
    if len(fitting[other]) > len(own) and (not own or fitting[other] == raw.keys()):
        one, wanted = (with_article(KINDS[name].one) for name in (other, kind))
        use = KINDS[other].command.replace("NAME", shlex.quote(str(path)))
        raise ConfigError([f"{path} is {one}, not {wanted}: {use}"])
    return raw


def no_file(path: Path) -> str:
    """Return `no such file` and the nearest names beside it; empty if there is the file."""
    # Unlike pathlib's methods, os.path's return False for names that are too long for a file system.
    if os.path.isfile(path):
        return ""
    siblings = path.parent.glob("*.yaml") if os.path.isdir(path.parent) else ()
    names = [sibling.name for sibling in siblings if not sibling.name.startswith(".")]
    return f"no such file; {nearest(path.name, names) if names else 'tadp-ray ls lists the shipped ones'}"


def other_kind(group: str, old: Mapping[str, Any], value: Mapping[str, Any]) -> str | None:
    """Return the key by which a group is of another kind or backbone than an old one; None if it is not."""
    for name in ("kind", "backbone"):
        before = old.get(name, DEFAULT_KINDS.get((group, name)))
        if value.get(name, before) != before:
            return name
    return None


def group_in(values: Mapping[str, Any], key: str) -> Any:
    """Return the value of a key, and of a model's short form, such as `latent: vpd`, the group that it stands for."""
    value = values.get(key)
    return (long_form(values, key) or value) if isinstance(value, str) else value


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` updated by `changes`, group by group. A group of another kind or backbone replaces the whole group."""
    merged = dict(base)
    for key, value in changes.items():
        old = group_in(base, key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(old, value) if both and not other_kind(key, old, value) else value
    return merged


def restarted(base: Mapping[str, Any], changes: Mapping[str, Any], prefix: KeyPath = ()) -> dict[KeyPath, str]:
    """Return the groups that `merge` replaces since they are of another kind or backbone, each with that key."""
    found: dict[KeyPath, str] = {}
    for key, value in changes.items():
        old, path = group_in(base, key), (*prefix, key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            name = other_kind(key, old, value)
            found |= {path: name} if name else restarted(old, value, path)
    return found


def paths_in(raw: Any, prefix: KeyPath = ()) -> list[KeyPath]:
    """Return every key path of a nested mapping, groups included."""
    if not isinstance(raw, Mapping):
        return [prefix]
    return [prefix, *(path for key, value in raw.items() for path in paths_in(value, (*prefix, key)))]


def paths_of(raw: Any, wanted: Callable[[Any], bool], prefix: KeyPath = ()) -> list[KeyPath]:
    """Return the key paths of the values in nested mappings and lists for which `wanted` is true."""
    if isinstance(raw, Mapping | list):
        entries = raw.items() if isinstance(raw, Mapping) else enumerate(raw)
        return [path for key, value in entries for path in paths_of(value, wanted, (*prefix, key))]
    return [prefix] if wanted(raw) else []


def read_extended(path: Path, kind: str, seen: tuple[Path, ...] = ()) -> tuple[dict[str, Any], dict[KeyPath, str]]:
    """Read a file and the files it extends. Return the merged values, and for each key path the file that set it.

    Args:
        path: the file.
        kind: `recipes` or `personalizations`, for names of shipped files.
        seen: the files that extend this one.

    Raises:
        ConfigError: a file cannot be read, or the chain is a cycle.
    """
    if path.resolve() in seen:
        raise ConfigError([f"{path}: extends: the chain comes back to this file"])
    raw = read_kind(path, kind)
    file = parent_of(path, raw, kind)
    parent = raw.pop("extends", None)
    if file is None:
        return raw, dict.fromkeys(paths_in(raw), str(path))
    base, origins = read_extended(file, kind, (*seen, path.resolve()))
    origins |= dict.fromkeys(paths_in(raw), str(path))
    for group, name in restarted(base, raw).items():
        own = [place for place in paths_in(raw) if place[: len(group)] == group]
        origins = without(origins, group) | dict.fromkeys(own, str(path))
        # Of a key that is missing there.
        origins[group] = f"{path} (another {name} than that of {parent} starts the group anew)"
    return merge(base, raw), origins


def parent_of(path: Path, raw: Mapping[str, Any], kind: str) -> Path | None:
    """Return the file that a file with these values extends; None if it extends none.

    Raises:
        ConfigError: there is no such file.
    """
    parent = raw.get("extends")
    if parent is None:
        return None
    if not isinstance(parent, str):
        raise ConfigError([f"{path}: extends={parent!r}: expected the path of one recipe file"])
    try:
        file = file_of(Path(expand_home(parent)), kind, path)
    except ValueError as error:
        raise ConfigError([f"{path}: extends={parent!r}: {error}"]) from None
    if problem := no_file(file):
        raise ConfigError([f"{path}: extends={parent!r}: {problem}"])
    return file


def extended_files(path: Path, kind: str) -> list[Path]:
    """Return a valid file and those that it extends, nearest first."""
    parent = parent_of(path, read_yaml(path), kind)
    return [path, *(extended_files(parent, kind) if parent else ())]


def without(origins: Mapping[KeyPath, str], group: KeyPath) -> dict[KeyPath, str]:
    """Return origins without those of a key path and all below it."""
    return {path: origin for path, origin in origins.items() if path[: len(group)] != group}


def set_key(raw: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Return a copy of `raw` with the dotted `key` set. Groups that are missing or not mappings are replaced."""
    head, _, rest = key.partition(".")
    if not rest:
        return {**raw, head: value}
    inner = group_in(raw, head)
    return {**raw, head: set_key(inner if isinstance(inner, dict) else {}, rest, value)}


def check_key(key: str, origin: str, kind: type[StrictModel] = Recipe) -> None:
    """Check that a dotted key exists in recipes, or in personalizations.

    Raises:
        ConfigError: it does not. The message contains `origin` (a file and axis, or an override) and the nearest key.
    """
    parts = key.split(".")
    for depth, group in enumerate(parts):
        valid = valid_names(kind, parts[:depth])
        if group not in valid and not has_own_names(kind, parts[:depth]):
            file = "recipe" if kind is Recipe else "personalization"
            where = ".".join(parts[:depth]) or f"a {file}"
            hint = nearest(group, valid) if valid else f"{where} is a single value"
            raise ConfigError([f"{origin}: {key}: no such {file} key ({group!r} in {where}); {hint}"])


def parse_override(text: str, kind: type[StrictModel] = Recipe) -> tuple[str, Any]:
    """Parse `a.b=value`, whose value is YAML, into (key, value).

    Raises:
        ConfigError: there is no "=", the value is not YAML, or no file of the kind has the key.
    """
    key, sign, value = text.partition("=")
    if not sign:
        raise ConfigError([f"--set {text}: expected key=value, e.g. schedule.iterations=100"])
    check_key(key.strip(), f"--set {text}", kind)
    read = parse_yaml(value, f"--set {text}")
    if ends_in_comment(value, read):
        quotes = isinstance(read, str) and not {"'", '"'} & {*value}
        mend = f"put the value in quotes: \"{key}='{value.strip()}'\"" if quotes else "leave it out"
        raise ConfigError([f"--set {text}: YAML drops what follows a space and #; {mend}"])
    return key.strip(), read


def ends_in_comment(text: str, read: Any) -> bool:
    """Return whether a YAML value, which was read as `read`, is followed by a comment."""
    for mark in re.finditer(r"(?:^|\s)#", text):
        # A mark within quotes leaves them open.
        with suppress(ConfigError):
            if parse_yaml(text[: mark.start()], "") == read:
                return True
    return False


def validate(kind: type[V], raw: Mapping[str, Any], origin: Callable[[KeyPath], str]) -> V:
    """Return `raw` as an object of `kind`, in pydantic's strict mode.

    Raises:
        ConfigError: all errors, each with its origin; or only those of addresses with a secret, if there are any.
    """
    if secret := paths_of(raw, lambda value: isinstance(value, str) and holds_secret(value)):
        raise ConfigError([f"{origin(place)}: {dotted(place)}: {CREDENTIALS_IN_ADDRESS}" for place in secret])
    try:
        # Strict JSON: a list is accepted as a tuple and a string as a path, but "3" is not a number.
        return kind.model_validate_json(json.dumps(raw), strict=True)
    except ValidationError as error:
        raise ConfigError(explain(error, kind, raw, origin)) from None


@dataclass(frozen=True)
class Origins:
    """Says what set a key path of a file: a file, or what was applied to it, such as `--set schedule.iterations=2`."""

    file: str
    by_path: Mapping[KeyPath, str]
    applied: Mapping[KeyPath, str] = field(default_factory=dict)
    """By the key paths that were changed."""

    def changed(self, key: str, value: Any, by: str, place: str | None = None) -> "Origins":
        """Return the origins after `by` has set a dotted key; errors in that key name `place`, else `by`."""
        path = tuple(key.split("."))
        own = dict.fromkeys(paths_in(value, path), place or by)
        return replace(self, by_path=without(self.by_path, path) | own, applied={**self.applied, path: by})

    def __call__(self, location: KeyPath) -> str:
        """Return the origin of a key path; of a group also what was applied to keys in it, `my.yaml with --set a.b=2`."""
        above = (location[:length] for length in range(len(location), 0, -1))
        place = next((self.by_path[path] for path in above if path in self.by_path), self.file)
        inside = [by for path, by in self.applied.items() if path[: len(location)] == location != path]
        return f"{place} with {', '.join(dict.fromkeys(inside))}" if inside else place


def load_recipe_values(
    path: Path, overrides: Sequence[str] = (), kind: type[StrictModel] = Recipe
) -> tuple[dict[str, Any], Origins]:
    """Return a recipe's values after `extends` and `--set`, and what set them."""
    raw, by_path = read_extended(path, "recipes" if kind is Recipe else "personalizations")
    origins = Origins(str(path), by_path)
    for text in overrides:
        key, value = parse_override(text, kind)
        raw, origins = set_key(raw, key, value), origins.changed(key, value, f"--set {text}")
    return raw, origins


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Load a recipe with overrides (ConfigError lists all errors)."""
    return validate(Recipe, *load_recipe_values(path, overrides))


def load_personalization(path: Path, overrides: Sequence[str] = ()) -> Personalization:
    """Load a personalization with overrides (ConfigError lists all errors)."""
    return validate(Personalization, *load_recipe_values(path, overrides, Personalization))


def load_sweep(path: Path) -> Sweep:
    """Load a sweep, and check that recipes have the keys of its axes, and that no result is called like an axis."""
    sweep = validate(Sweep, read_kind(path, "sweeps"), lambda _: str(path))
    for axis in sweep.axes:
        if axis in (METRIC, EXPERIMENT, *RESULT_COLUMNS) or impossible_metric(axis) is None:
            raise ConfigError([f"{path}: axes: {axis}: results have something else of this name; rename the axis"])
    for key in sorted(sweep.keys):
        check_key(key, f"{path}: axes")
    return sweep


def load_search(path: Path) -> Search:
    """Load a search, and check that recipes have the keys of its ranges."""
    search = validate(Search, read_kind(path, "searches"), lambda _: str(path))
    for key in search.space:
        check_key(key, f"{path}: space")
    return search


def load_analysis(path: Path, scale: Scale = "pocket") -> Analysis:
    """Load an analysis at a scale, and check the scales' changes and the recipe keys of its texts."""
    raw = read_kind(path, "analyses")
    analysis = validate(Analysis, raw, lambda _: str(path))
    scaled = {
        name: validate(
            Analysis, {**raw, "spec": merge(raw["spec"], keys)}, lambda _, name=name: f"{path}: scales.{name}"
        )
        for name, keys in analysis.scales.items()
    }
    analysis = scaled.get(scale, analysis)
    for text in getattr(analysis.spec, "texts", {}).values():
        for key in text:
            check_key(key, f"{path}: spec.texts")
    return analysis
