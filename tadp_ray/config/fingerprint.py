"""Hashes of settings: only what differs from the defaults counts, so that a new key leaves yesterday's hashes."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

DEFAULTS = 1
"""Number of the meaning of defaults, hashed with every setting.

Raise it when the value of a default changes, or what a default value does. A new key needs none of this as long as its
default does what was done without it.
"""


def sha256_of(value: Any) -> str:
    """Hex digest of a JSON value, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def but_threads(group: type[BaseModel]) -> dict[str, bool]:
    """Of what says where something runs, all that changes no number on CPUs: the threads do.

    Threads add up in another order, and numbers differ in their last digits.
    """
    return {name: True for name in group.model_fields if name != "cpus"}


def changed(group: BaseModel, without: Mapping[str, Any]) -> dict[str, Any]:
    """What a group of keys says beside its defaults, as JSON values; required keys are always among it.

    Args:
        group: of any vocabulary, groups inside it included.
        without: keys that do not count; for a key of a group inside, True or the keys within it that do not count.
    """
    said = {}
    for name, field in type(group).model_fields.items():
        inner = without.get(name, {})
        if inner is True:
            continue
        value, default = getattr(group, name), field.get_default(call_default_factory=True)
        if type(value) is type(default) and _shown(value, inner) == _shown(default, inner):
            continue
        said[name] = _shown(value, inner)
    return said


def _shown(value: Any, without: Mapping[str, Any]) -> Any:
    """A value as JSON has it, groups without their defaults."""
    if isinstance(value, BaseModel):
        return changed(value, without)
    if isinstance(value, list | tuple):
        return [_shown(item, without) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _shown(item, without) for key, item in value.items()}
    # Adding zero makes -0.0 the 0.0 that it is equal to.
    return value + 0.0 if isinstance(value, float) else to_jsonable_python(value)
