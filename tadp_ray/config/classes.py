"""Parses and checks class names: valid characters, and no two that a text encoder reads alike."""

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from tadp_ray.config.vocabulary import BACKGROUND
from tadp_ray.errors import UserError, raise_problems
from tadp_ray.files import read_lines
from tadp_ray.wording import names_listed

MAX_CLASSES = 255
"""Masks have 8 bits, and 255 means ignored."""


def misnamed(names: Sequence[str]) -> list[str]:
    """Return the problems with class names, one line each; empty if there are none.

    Names are used in prompts and as keys of metrics. A text encoder ignores case, repeated spaces and the Unicode form of
    accented letters, so names that differ only in these are the same to it.
    """
    problems = []
    first: dict[str, str] = {}
    for place, name in enumerate(names):
        forbidden = next((each for each in name if is_forbidden(each)), None)
        if not normalized(name):
            problems.append(f"name {place} is {name!r}, without a character to read; write a word")
        elif forbidden is not None:
            problems.append(f"name {place}, {name!r}, holds the character {forbidden!a}; take it out")
        elif name != name.strip():
            problems.append(f"name {place}, {name!r}, has spaces at an end; take them away")
        elif name != BACKGROUND and normalized(name).strip("_- ") == BACKGROUND:
            problems.append(f"name {place}, {name!r}, is no other class than {BACKGROUND}; write {BACKGROUND!r}")
        elif (other := first.setdefault(normalized(name), name)) != name or names.index(name) < place:
            problems.append(
                f"name {place}, {name!r}, reads like {other!r} (name {names.index(other)}); rename one of them"
            )
    return problems


def parse_classes(text: str) -> list[str]:
    """Parse class names: `a,b,c`, or a file with one name per line.

    Raises:
        UserError: it is neither, or some names are invalid; lists them.
    """
    if os.path.isfile(text):
        names = read_lines(Path(text))
    elif "," in text:
        names = [*names_listed(text.removesuffix(","))]
    else:
        raise UserError(f"--classes {text}: expected names separated by commas or a file (for one name: 'name,')")
    raise_problems([f"--classes {text}: {problem}" for problem in (misnamed(names) if names else ["no names"])])
    return names


def normalized(name: str) -> str:
    """Return a name case-folded, in Unicode's NFC, without zero-width characters and repeated spaces."""
    text = "".join(each for each in unicodedata.normalize("NFC", name.casefold()) if unicodedata.category(each) != "Cf")
    return " ".join(unicodedata.normalize("NFC", text).split())


def is_forbidden(character: str) -> bool:
    """Whether a character is a control, a line separator, a surrogate, private, unassigned, or U+FFFD or U+FEFF."""
    return unicodedata.category(character) in ("Cc", "Cs", "Co", "Cn", "Zl", "Zp") or character in "\ufffd\ufeff"


def too_many(count: int) -> str:
    """Return why there are too many classes; empty if there are not."""
    if count <= MAX_CLASSES:
        return ""
    return (
        f"{count} classes: at most {MAX_CLASSES} can be told apart, as a mask has 8 bits and 255 means ignored; put rare "
        "classes together, or leave some out and list their labels as ignored"
    )
