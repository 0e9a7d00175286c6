"""Reads YAML into the vocabulary: `extends:` chains, `--set` overrides, and every error of a file at once."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from tadp_ray.addresses import holds_secret
from tadp_ray.config.analysis import Analysis
from tadp_ray.config.errors import ConfigError, dotted, explain, nearest, valid_names
from tadp_ray.config.personalization import Personalization
from tadp_ray.config.schema import Recipe, Sweep
from tadp_ray.config.search import Search
from tadp_ray.config.shipped import file_of
from tadp_ray.config.vocabulary import OPEN_ADDRESS, Scale, StrictModel, at_home
from tadp_ray.config.yaml12 import parse_yaml, read_text

V = TypeVar("V", bound=StrictModel)
KeyPath = tuple[str | int, ...]


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ConfigError: the file is missing, is not YAML, or holds something else than keys and values.
    """
    # Unlike pathlib's, these say no to names that are too long for any file system.
    if not os.path.isfile(path):
        siblings = [p.name for p in path.parent.glob("*.yaml")] if os.path.isdir(path.parent) else []
        raise ConfigError([f"{path}: no such file" + (f"; {nearest(path.name, siblings)}" if siblings else "")])
    raw = parse_yaml(read_text(path), str(path))
    if not isinstance(raw, dict):
        found = "nothing" if raw is None else "a list" if isinstance(raw, list) else f"{raw!r:.80}"
        raise ConfigError([f"{path}: expected keys and values, found {found}"])
    return raw


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes` laid over it, group by group. A group of another kind or backbone replaces the whole group."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        alike = both and all(value.get(name, old.get(name)) == old.get(name) for name in ("kind", "backbone"))
        merged[key] = merge(old, value) if alike else value
    return merged


def paths_in(raw: Any, prefix: KeyPath = ()) -> list[KeyPath]:
    """Every key path of a nested mapping, groups included."""
    if not isinstance(raw, Mapping):
        return [prefix]
    return [prefix, *(path for key, value in raw.items() for path in paths_in(value, (*prefix, key)))]


def paths_of(raw: Any, wanted: Callable[[Any], bool], prefix: KeyPath = ()) -> list[KeyPath]:
    """The key paths of the single values, in mappings and lists, that are wanted."""
    if isinstance(raw, Mapping | list):
        entries = raw.items() if isinstance(raw, Mapping) else enumerate(raw)
        return [path for key, value in entries for path in paths_of(value, wanted, (*prefix, key))]
    return [prefix] if wanted(raw) else []


def read_extended(path: Path, kind: str, seen: tuple[Path, ...] = ()) -> tuple[dict[str, Any], dict[KeyPath, str]]:
    """A recipe file with everything it extends, and for each key path the file that said it last.

    Args:
        path: the file.
        kind: recipes or personalizations, among which bare names are looked up.
        seen: the files that led here.
    """
    if path.resolve() in seen:
        raise ConfigError([f"{path}: extends: the chain comes back to this file"])
    raw = read_yaml(path)
    parent = raw.pop("extends", None)
    if parent is None:
        return raw, dict.fromkeys(paths_in(raw), str(path))
    if not isinstance(parent, str):
        raise ConfigError([f"{path}: extends={parent!r}: expected the path of one recipe file"])
    try:
        file = file_of(Path(at_home(parent)), kind, path)
    except ValueError as error:
        raise ConfigError([f"{path}: extends={parent!r}: {error}"]) from None
    base, origins = read_extended(file, kind, (*seen, path.resolve()))
    return merge(base, raw), {**origins, **dict.fromkeys(paths_in(raw), str(path))}


def set_key(raw: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy of `raw` with the dotted `key` set. A whole group must be a mapping to be entered."""
    head, _, rest = key.partition(".")
    inner = raw.get(head)
    return {**raw, head: set_key(inner if isinstance(inner, dict) else {}, rest, value) if rest else value}


def check_key(key: str, origin: str, kind: type[StrictModel] = Recipe) -> None:
    """Refuses a dotted key that no recipe (or other kind of file) has, with the nearest that one has.

    Raises:
        ConfigError: naming `origin` (a file and axis, or an override) and the nearest valid key.
    """
    *groups, name = key.split(".")
    for depth, group in enumerate([*groups, name]):
        valid = valid_names(kind, key.split(".")[:depth])
        if group not in valid:
            where = ".".join(key.split(".")[:depth]) or "a recipe"
            hint = nearest(group, valid) if valid else f"{where} is a single value"
            raise ConfigError([f"{origin}: {key}: no such recipe key ({group!r} in {where}); {hint}"])


def parse_override(text: str, kind: type[StrictModel] = Recipe) -> tuple[str, Any]:
    """`a.b=value` as (key, value); the value is read as YAML.

    Raises:
        ConfigError: there is no "=", the value is not YAML, or no recipe has the key.
    """
    key, sign, value = text.partition("=")
    if not sign:
        raise ConfigError([f"--set {text}: expected key=value, e.g. schedule.iterations=100"])
    check_key(key.strip(), f"--set {text}", kind)
    return key.strip(), parse_yaml(value, f"--set {text}")


def validate(kind: type[V], raw: Mapping[str, Any], origin: Callable[[KeyPath], str]) -> V:
    """`raw` as `kind`, strictly typed.

    Raises:
        ConfigError: every error at once, each with where it comes from; before all others, an address with a secret.
    """
    if secret := paths_of(raw, lambda value: isinstance(value, str) and holds_secret(value)):
        raise ConfigError([f"{origin(place)}: {dotted(place)}: {OPEN_ADDRESS}" for place in secret])
    try:
        # Strict JSON: a list is a tuple and a string is a path, but "3" is no number and yes is no integer.
        return kind.model_validate_json(json.dumps(raw), strict=True)
    except ValidationError as error:
        raise ConfigError(explain(error, kind, raw, origin)) from None


def load_recipe_values(
    path: Path, overrides: Sequence[str] = (), kind: type[StrictModel] = Recipe
) -> tuple[dict[str, Any], Callable[[KeyPath], str]]:
    """A recipe's raw values after `extends` and `--set`, and the function that says where a key path comes from."""
    raw, origins = read_extended(path, "recipes" if kind is Recipe else "personalizations")
    for text in overrides:
        key, value = parse_override(text, kind)
        raw = set_key(raw, key, value)
        origins = {**origins, **dict.fromkeys(paths_in(value, tuple(key.split("."))), f"--set {text}")}

    def origin(location: KeyPath) -> str:
        for length in range(len(location), 0, -1):
            if location[:length] in origins:
                return origins[location[:length]]
        return str(path)

    return raw, origin


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in `path`, resolved and checked (ConfigError lists every error)."""
    return validate(Recipe, *load_recipe_values(path, overrides))


def load_personalization(path: Path, overrides: Sequence[str] = ()) -> Personalization:
    """The personalization in `path`, resolved as a recipe is and checked (ConfigError lists every error)."""
    return validate(Personalization, *load_recipe_values(path, overrides, Personalization))


def load_sweep(path: Path) -> Sweep:
    """The sweep in `path`, each axis naming keys that recipes have."""
    sweep = validate(Sweep, read_yaml(path), lambda _: str(path))
    for key in sorted(sweep.keys):
        check_key(key, f"{path}: axes")
    return sweep


def load_search(path: Path) -> Search:
    """The search in `path`, each range of a key that recipes have."""
    search = validate(Search, read_yaml(path), lambda _: str(path))
    for key in search.space:
        check_key(key, f"{path}: space")
    return search


def load_analysis(path: Path, scale: Scale = "pocket") -> Analysis:
    """The analysis in `path` as it is at a scale; what it makes texts of are keys that recipes have."""
    raw = read_yaml(path)
    analysis = validate(Analysis, raw, lambda _: str(path))
    looks = {
        own: validate(Analysis, {**raw, "look": merge(raw["look"], keys)}, lambda _, own=own: f"{path}: scales.{own}")
        for own, keys in analysis.scales.items()
    }
    analysis = looks.get(scale, analysis)
    for text in getattr(analysis.look, "texts", {}).values():
        for key in text:
            check_key(key, f"{path}: look.texts")
    return analysis
