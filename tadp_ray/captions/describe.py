"""Writes captions from class names: a list of names, a sentence, or a longer sentence like a captioner's."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

NUMBERS = ("no", "one", "two", "three", "four", "five", "six")
PLURALS = {
    "calf": "calves",
    "child": "children",
    "goose": "geese",
    "knife": "knives",
    "leaf": "leaves",
    "loaf": "loaves",
    "man": "men",
    "mouse": "mice",
    "ox": "oxen",
    "person": "people",
    "potato": "potatoes",
    "sheep": "sheep",
    "shelf": "shelves",
    "tomato": "tomatoes",
    "wolf": "wolves",
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
    left: float | None = None
    """Left edge of its box, as `side`; None: the centre."""
    right: float | None = None
    """Right edge."""

    @property
    def span(self) -> tuple[float, float]:
        """Left and right edge of its box, or its centre twice."""
        return self.side if self.left is None else self.left, self.side if self.right is None else self.right


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
    phrases = [f"{counted(name, count)} {where}" for (name, where), count in groups.items()]
    return scene_sentence(phrases, grounds, behind, work)


def scene_sentence(phrases: Sequence[str], grounds: Sequence[str], behind: Sequence[str], work: str = "photo") -> str:
    """Return `a photo of PHRASE and PHRASE, on grass, with hill and sky behind`; without phrases `a photo on grass, ...`."""
    parts = [join(phrases)] if phrases else []
    parts += [f"on {join(grounds)}"] if grounds else []
    parts += [f"with {join(behind)} behind"] if behind else []
    return " ".join([f"a {work} of" if phrases else f"a {work}", ", ".join(parts)]).strip()


def place(mention: Mention) -> str:
    """Return an object's place: its third of the picture, and whether it is far away."""
    return third(mention) if mention.near else f"far away {third(mention)}"


def third(mention: Mention) -> str:
    """Return the third of the picture that an object's centre lies in."""
    return ("on the left", "in the middle", "on the right")[min(int(3 * mention.side), 2)]


def counts(things: Sequence[Mention]) -> list[str]:
    """Return `two cars`, `a tree`: how many there are of each name."""
    return [counted(name, count) for name, count in Counter(thing.name for thing in things).items()]


def places(things: Sequence[Mention]) -> list[str]:
    """Return `a car on the left`, `a car on the right`: in which thirds each name is, not how often."""
    return [f"{counted(name, 1)} {where}" for name, where in dict.fromkeys((each.name, third(each)) for each in things)]


def relations(things: Sequence[Mention]) -> list[str]:
    """Return `a car on the left of a tree`, `a cow behind a car`: how each object lies to the next nearer one.

    The farther one is behind the nearer one if their boxes share a column of pixels, else left or right of it. A single object
    has a name only.

    Args:
        things: from near to far.
    """
    said = []
    for near, far in pairwise(things):
        (left, right), (start, end) = near.span, far.span
        where = "on the left of" if end <= left else "on the right of" if right <= start else "behind"
        said.append(f"{counted(far.name, 1)} {where} {counted(near.name, 1)}")
    return list(dict.fromkeys(said)) or [counted(thing.name, 1) for thing in things]


def counted(name: str, count: int) -> str:
    """Return `a car`, `an apple` or `three buses`."""
    if count == 1:
        # 'ewe' begins with a consonant sound.
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
