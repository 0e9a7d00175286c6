"""Writes captions from class names: a list of names, a sentence, or a longer sentence like a captioner's."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

NUMBERS = ("no", "one", "two", "three", "four", "five", "six")
PLURALS = {
    "child": "children",
    "goose": "geese",
    "knife": "knives",
    "loaf": "loaves",
    "man": "men",
    "mouse": "mice",
    "person": "people",
    "sheep": "sheep",
    "shelf": "shelves",
    "woman": "women",
}
"""Those that no rule gives."""


@dataclass(frozen=True)
class Mention:
    """An object in a picture, as a captioner would mention it."""

    name: str
    side: float
    """Horizontal centre: 0 at the left edge, 1 at the right."""
    near: bool


def class_list(names: Sequence[str]) -> str:
    """Return only the names: `grass car sky`."""
    return " ".join(names)


def sentence(names: Sequence[str], things: Collection[str], work: str = "photo") -> str:
    """Return `a photo of a car, an apple and grass`: things with an article, stuff without; `work` is what the image is."""
    return f"a {work} of {join([counted(name, 1) if name in things else name for name in names])}"


def plain_sentence(_: str, names: Sequence[str]) -> str:
    """Return a sentence for an image of which only the names are known, not which of them are things."""
    return sentence(names, ()) if names else "a photo"


def long_sentence(
    mentions: Sequence[Mention], grounds: Sequence[str], behind: Sequence[str], work: str = "photo"
) -> str:
    """Return `a photo of two cars on the left and a tree far away in the middle, on grass, with hill and sky behind`."""
    groups = Counter((mention.name, place(mention)) for mention in mentions)
    parts = [join([f"{counted(name, count)} {where}" for (name, where), count in groups.items()])] if mentions else []
    parts += [f"on {join(grounds)}"] if grounds else []
    parts += [f"with {join(behind)} behind"] if behind else []
    return (f"a {work} of " if mentions else f"a {work} ") + ", ".join(parts)


def place(mention: Mention) -> str:
    """Return an object's place: its third of the picture, and whether it is far away."""
    third = ("on the left", "in the middle", "on the right")[min(int(3 * mention.side), 2)]
    return third if mention.near else f"far away {third}"


def counted(name: str, count: int) -> str:
    """Return `a car`, `an apple` or `three buses`."""
    if count == 1:
        # A ewe is said like a yew.
        return f"{'an' if name[0] in 'aeiou' and name != 'ewe' else 'a'} {name}"
    number = NUMBERS[count] if count < len(NUMBERS) else "many"
    return f"{number} {plural(name)}"


def plural(noun: str) -> str:
    """Return the plural of a noun, e.g. `cars`, `benches`, `pastries`, `people`."""
    if noun in PLURALS:
        return PLURALS[noun]
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and not noun.endswith(("ay", "ey", "oy", "uy")):
        return noun[:-1] + "ies"
    return noun + "s"


def join(phrases: Sequence[str]) -> str:
    """Return `x, y and z`."""
    return ", ".join(phrases[:-1]) + (" and " if phrases[1:] else "") + "".join(phrases[-1:])
