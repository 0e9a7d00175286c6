"""Hashes of settings. Only values other than the defaults are hashed, so a new key does not change existing hashes."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

DEFAULTS = 2
"""Version of the defaults, part of every hash.

Raise it when a default changes its value or its effect. A new key whose default keeps the behaviour does not need it.
"""


def sha256_of(value: Any) -> str:
    """Return the SHA-256 of a JSON value as hex digits, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def all_but(group: type[BaseModel], *keys: str) -> dict[str, bool]:
    """Return all other keys of a group, as `changed` takes them in `without`."""
    return {name: True for name in group.model_fields if name not in keys}


def changed(group: BaseModel, without: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a group that differ from their defaults, as JSON values. Required keys are always included.

    Args:
        group: of any kind, with nested groups.
        without: keys to leave out. The value is True, or for a nested group the keys within it to leave out.
    """
    values = {}
    for name, field in type(group).model_fields.items():
        inner = without.get(name, {})
        if inner is True:
            continue
        value, default = getattr(group, name), field.get_default(call_default_factory=True)
        if type(value) is type(default) and _jsonable(value, inner) == _jsonable(default, inner):
            continue
        values[name] = _jsonable(value, inner)
    return values


def _jsonable(value: Any, without: Mapping[str, Any]) -> Any:
    """Return a value in JSON's types, groups without their defaults."""
    if isinstance(value, BaseModel):
        return changed(value, without)
    if isinstance(value, list | tuple):
        return [_jsonable(item, without) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item, without) for key, item in value.items()}
    # Adding zero turns -0.0 into 0.0.
    return value + 0.0 if isinstance(value, float) else to_jsonable_python(value)
