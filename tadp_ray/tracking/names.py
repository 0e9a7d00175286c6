"""Names as MLflow's keys, and back. Class names may hold anything; MLflow takes some characters only, and no odd paths.

Letters of any language, digits, spaces, `_`, `-` and `.` stay as they are, and so does a `/` that parts words. Every other
character becomes the bytes of its UTF-8, each a `:` and two digits: `bed (double)` is `bed :28double:29`. Distinct names
have distinct keys.
"""

import re
from collections.abc import Iterable

from tadp_ray.errors import UserError

LONGEST = 250
"""Characters of a key."""
PATH = re.compile(r"[^\w.\- /]")
WORD = re.compile(r"[^\w\- ]")
ESCAPED = re.compile(r"(?::[0-9A-F]{2})+")
ODD = ("", ".", "..")
"""Words that a path may not hold, because they would lead to another."""


def encode(name: str) -> str:
    """MLflow's key of a name."""
    if not any(word in ODD for word in name.split("/")):
        return PATH.sub(escaped, name)
    # What stands before the first "/" is ours, such as iou/, and MLflow's page groups curves by it.
    group, slash, rest = name.partition("/")
    if group in ODD or not rest:
        return WORD.sub(escaped, name)
    return PATH.sub(escaped, group) + slash + WORD.sub(escaped, rest)


def escaped(found: re.Match[str]) -> str:
    """A character as the digits of its bytes."""
    return "".join(f":{byte:02X}" for byte in found.group().encode("utf-8", "surrogatepass"))


def decode(key: str) -> str:
    """The name that has this key; what is no key of ours stays as it is."""
    return ESCAPED.sub(unescaped, key)


def unescaped(found: re.Match[str]) -> str:
    """The characters of some bytes' digits."""
    try:
        return bytes.fromhex(found.group().replace(":", "")).decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return found.group()


def check_classes(names: Iterable[str]) -> None:
    """Refuse class names whose scores no key of MLflow can hold.

    Raises:
        UserError: one is too long, counted as it is escaped.
    """
    for name in names:
        if (length := len(encode(f"ap50/{name}"))) > LONGEST:
            raise UserError(
                f"the class {name[:60]!r}... is {length} characters long as MLflow's key, which holds {LONGEST}; shorten it"
            )


def clean(text: str) -> str:
    """A text that every database takes: what no UTF-8 holds, and the character 0, as their escapes."""
    return text.replace("\0", r"\x00").encode("utf-8", "backslashreplace").decode()
