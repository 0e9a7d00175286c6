"""Encodes names as MLflow keys and decodes them, and settings as parameters. MLflow allows only some characters, and no
unusual paths.

Letters of any language, digits, spaces, `_`, `-`, `.` and a `/` between words are kept. Every other character becomes its
UTF-8 bytes, each a `:` and two hexadecimal digits: `bed (double)` is `bed :28double:29`. Distinct names have distinct keys.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from tadp_ray.errors import UserError

MAX_KEY_LENGTH = 250
"""In characters."""
PARAM_LENGTH = 6000
"""In characters."""
PATH = re.compile(r"[^\w.\- /]")
WORD = re.compile(r"[^\w\- ]")
ESCAPED = re.compile(r"(?::[0-9A-F]{2})+")
INVALID_PARTS = ("", ".", "..")
"""Of a path."""


def encode(name: str) -> str:
    """Return the MLflow key of a name."""
    if not any(word in INVALID_PARTS for word in name.split("/")):
        return PATH.sub(escaped, name)
    # The prefix up to the first "/" is ours, such as iou/, and MLflow's page groups curves by it.
    group, slash, rest = name.partition("/")
    if group in INVALID_PARTS or not rest:
        return WORD.sub(escaped, name)
    return PATH.sub(escaped, group) + slash + WORD.sub(escaped, rest)


def escaped(found: re.Match[str]) -> str:
    """Return the matched characters as the hexadecimal digits of their bytes."""
    return "".join(f":{byte:02X}" for byte in found.group().encode("utf-8", "surrogatepass"))


def decode(key: str) -> str:
    """Return the name of a key; a key that is not ours is unchanged."""
    return ESCAPED.sub(unescaped, key)


def unescaped(found: re.Match[str]) -> str:
    """Return the characters of the matched digits."""
    try:
        return bytes.fromhex(found.group().replace(":", "")).decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return found.group()


def check_classes(names: Iterable[str]) -> None:
    """Check that class names fit into MLflow's keys.

    Raises:
        UserError: an encoded name is too long.
    """
    for name in names:
        if (length := len(encode(f"ap50/{name}"))) > MAX_KEY_LENGTH:
            raise UserError(
                f"the class {name[:60]!r}... makes an MLflow key of {length} characters, {MAX_KEY_LENGTH} at most; shorten it"
            )


def clean(text: str) -> str:
    """Escape characters that databases refuse: zero bytes and characters without a UTF-8 encoding."""
    return text.replace("\0", r"\x00").encode("utf-8", "backslashreplace").decode()


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested settings as MLflow parameters: dotted keys, values as text, long texts cut."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            flat[encode(prefix + key)] = clean(text)[:PARAM_LENGTH]
    return flat
