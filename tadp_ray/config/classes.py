"""Class names: what may be one, and when two are too alike to be told apart."""

import unicodedata
from collections.abc import Sequence

MAX_CLASSES = 255
"""A mask has 8 bits, of which 255 means ignored."""


def misnamed(names: Sequence[str]) -> list[str]:
    """What is wrong with class names, one line each; none if all are good.

    Names are the words of prompts and the keys of metrics. A text encoder reads capitals as small letters, blanks in a row as
    one, and either spelling of an accented letter alike, so names that differ in nothing else would be one word twice.
    """
    problems = []
    first: dict[str, str] = {}
    for place, name in enumerate(names):
        strange = next((each for each in name if is_strange(each)), None)
        if not alike(name):
            problems.append(f"name {place} is {name!r}, without a character to read; write a word")
        elif strange is not None:
            problems.append(f"name {place}, {name!r}, holds the character {strange!a}; take it out")
        elif name != name.strip():
            problems.append(f"name {place}, {name!r}, has spaces at an end; take them away")
        elif (other := first.setdefault(alike(name), name)) != name or names.index(name) < place:
            problems.append(
                f"name {place}, {name!r}, reads like {other!r} (name {names.index(other)}); rename one of them"
            )
    return problems


def alike(name: str) -> str:
    """A name without what readers do not see: capitals, spelling of accents, marks of no width, blanks in a row."""
    seen = "".join(each for each in unicodedata.normalize("NFC", name.casefold()) if unicodedata.category(each) != "Cf")
    return " ".join(unicodedata.normalize("NFC", seen).split())


def is_strange(character: str) -> bool:
    """Control characters, line ends, halves of characters, characters of no meaning, and the mark of a failed decoding."""
    return unicodedata.category(character) in ("Cc", "Cs", "Co", "Cn", "Zl", "Zp") or character in "\ufffd\ufeff"


def too_many(count: int) -> str:
    """What is wrong with so many classes; empty if nothing is."""
    if count <= MAX_CLASSES:
        return ""
    return (
        f"{count} classes: at most {MAX_CLASSES} can be told apart, as a mask has 8 bits and 255 means ignored; put rare "
        "classes together, or leave some out and list their labels as ignored"
    )
