"""Turns pydantic's errors into lines that name the file, the key, the value, the rule and the nearest valid name."""

import difflib
import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from tadp_ray.addresses import masked
from tadp_ray.errors import UserError
from tadp_ray.wording import pluralized

RULES = {
    **dict.fromkeys(("list_type", "tuple_type"), "expected a list"),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "expected a group of keys"),
    "extra_forbidden": "unknown key",
    "missing": "this key is required",
    "union_tag_invalid": "unknown kind",
    "union_tag_not_found": "the key 'kind' is required here",
}

BOUNDS = {"too_short": "least", "too_long": "most"}
"""Of the length of a list or a group."""


class ConfigError(UserError):
    """A file or an override is invalid. The message lists every error, one per line."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = tuple(map(masked, lines))
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[Any, ...]:
        # Else it is made of its text when it arrives from another process.
        return type(self), (self.lines,)


def suggestion(name: str, valid: Sequence[str], cutoff: float = 0.6) -> str:
    """Return `did you mean X?` for a near miss, else nothing."""
    by_lower = {known.lower(): known for known in valid}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=cutoff)
    return f"did you mean {by_lower[close[0]]!r}?" if close else ""


def nearest(name: str, valid: Sequence[str]) -> str:
    """Return `did you mean X?` for a near miss, else the list of valid names."""
    return suggestion(name, valid) or f"valid names: {', '.join(valid)}"


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the models that an annotation admits (a union admits several)."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, types.UnionType, Annotated, tuple, dict):
        return [model for part in get_args(annotation) for model in models_in(part)]
    return []


def groups_at(model: type[BaseModel], path: Sequence[str]) -> list[type[BaseModel]]:
    """Return the models that the group at `path` within `model` may have; empty if there is no group there."""
    groups = [model]
    parts = (part for part in path if not part.isdecimal())
    for part in parts:
        fields = [group.model_fields[part] for group in groups if part in group.model_fields]
        groups = [model for field in fields for model in models_in(field.annotation)]
        if any(get_origin(field.annotation) is dict for field in fields):
            next(parts, None)  # a name of the file's own
    return groups


def has_own_names(model: type[BaseModel], path: Sequence[str]) -> bool:
    """Return whether the group at `path` within `model` has names of the file's own in the place of keys."""
    *outer, name = path or ("",)
    fields = [group.model_fields[name] for group in groups_at(model, outer) if name in group.model_fields]
    return any(get_origin(field.annotation) is dict for field in fields)


def valid_names(model: type[BaseModel], path: Sequence[str]) -> list[str]:
    """Return the valid keys of the group at `path` within `model`; empty if there is no group there."""
    return list(dict.fromkeys(name for group in groups_at(model, path) for name in group.model_fields))


def kinds_with(name: str, model: type[BaseModel], path: Sequence[str]) -> list[str]:
    """Return the kinds of the group at `path` within `model` that have a key; empty if it has no kinds."""
    groups = [group for group in groups_at(model, path) if name in group.model_fields]
    fields = [group.model_fields[key] for group in groups for key in ("kind", "backbone") if key in group.model_fields]
    return [str(kind) for field in fields for kind in get_args(field.annotation)]


def key_path(location: Sequence[str | int], raw: Any, *, missing: bool) -> tuple[str | int, ...]:
    """Return pydantic's location of an error in some values, without what it inserts after unions, which is no key of theirs.

    A missing key is not in the values.
    """
    path: list[str | int] = []
    for part in location:
        if part in raw if isinstance(raw, Mapping) else isinstance(raw, list | tuple) and part in range(len(raw)):
            path.append(part)
            raw = raw[part]
    return (*path, *(location[-1:] if missing else ()))


def dotted(path: Sequence[str | int]) -> str:
    """Return `a.b[2]` for ("a", "b", 2); empty for a whole file."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def mend_of_key(name: str, model: type[BaseModel], group: Sequence[str]) -> str:
    """Return what to write for a key that the group at a path within `model` does not have."""
    if kinds := kinds_with(name, model, group):
        key = "backbone" if "backbone" in valid_names(model, group) else "kind"
        return (
            f"only {key}: {' or '.join(kinds[:4])} has it; for another {key}, write the whole group: "
            f"{dotted(group)}: {{{key}: {kinds[0]}, {name}: ...}}"
        )
    return nearest(name, valid_names(model, group))


def explain(error: ValidationError, model: type[BaseModel], raw: Any, origin: Any) -> list[str]:
    """Return one line per error. `origin(path)` returns the file or override that set a key path."""
    lines = []
    for item in error.errors():
        path = key_path(item["loc"], raw, missing=item["type"] == "missing")
        rule = RULES.get(item["type"], item["msg"].removeprefix("Value error, "))
        told = item["type"] != "missing" and not isinstance(item["input"], Mapping)
        value = f"={item['input']!r:.200}" if told else ""
        if item["type"] == "union_tag_not_found" and not isinstance(item["input"], Mapping):
            rule = RULES["dict_type"]
        if rule == RULES["dict_type"] and (names := valid_names(model, [str(part) for part in path])):
            rule += f": {', '.join(names)}"
        if bound := BOUNDS.get(item["type"]):
            number = item["ctx"]["min_length" if bound == "least" else "max_length"]
            rule = f"needs at {bound} {pluralized(number, 'items')}"
        if item["type"] == "extra_forbidden":
            rule += "; " + mend_of_key(str(path[-1]), model, [str(part) for part in path[:-1]])
        if item["type"] == "union_tag_invalid":
            rule += f" {item['ctx']['tag']!r}; expected one of {item['ctx']['expected_tags']}"
        if item["type"] == "bool_type" and str(item["input"]).lower() in ("yes", "no", "on", "off"):
            rule += "; YAML 1.2 has true and false alone"
        # What keys say together has no place.
        place = f"{dotted(path)}{value}: " if path else ""
        lines.append(f"{origin(path)}: {place}{rule}")
    return lines
