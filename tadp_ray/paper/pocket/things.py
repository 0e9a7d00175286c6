"""The things of the atlas: which drawings are taken, what they are called, and which of them look alike.

Chosen by eye on sheets of 30-pixel drawings: every family draws them as the same kind of thing (all head or all body), and one
can tell which thing it is. No name lies within another one, so that a search for a name in a text finds no other thing.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Thing:
    """A drawing's Unicode code point (hexadecimal), and words that emojibase has for this thing and that name nothing broader.

    The name and each synonym is a word of emojibase's label or one of its tags.
    """

    code_point: str
    synonyms: tuple[str, ...] = ()


THINGS: dict[str, dict[str, Thing]] = {
    "farm": {
        "cow": Thing("1f404"),
        "horse": Thing("1f40e"),
        "sheep": Thing("1f411", ("ewe", "lamb")),
        "pig": Thing("1f416", ("sow",)),
    },
    "wild": {
        "tiger": Thing("1f405"),
        "elephant": Thing("1f418"),
        "camel": Thing("1f42a", ("dromedary",)),
        "giraffe": Thing("1f992"),
    },
    "heads": {
        "bear": Thing("1f43b", ("grizzly",)),
        "panda": Thing("1f43c"),
        "lion": Thing("1f981"),
        "fox": Thing("1f98a"),
    },
    "pets": {
        "dog": Thing("1f415"),
        "cat": Thing("1f408", ("kitten",)),
        "rabbit": Thing("1f407", ("bunny",)),
        "squirrel": Thing("1f43f", ("chipmunk",)),
    },
    "birds": {
        "duck": Thing("1f986"),
        "owl": Thing("1f989"),
        "penguin": Thing("1f427"),
        "parrot": Thing("1f99c"),
    },
    "fruit": {
        "apple": Thing("1f34e"),
        "pear": Thing("1f350"),
        "lemon": Thing("1f34b"),
        "strawberry": Thing("1f353"),
    },
    "food": {
        "pizza": Thing("1f355"),
        "hamburger": Thing("1f354"),
        "doughnut": Thing("1f369", ("donut",)),
        "cake": Thing("1f382"),
    },
    "plants": {
        "tree": Thing("1f333"),
        "palm": Thing("1f334"),
        "pine": Thing("1f332", ("evergreen",)),
        "cactus": Thing("1f335"),
    },
    "vehicles": {
        "car": Thing("1f697", ("automobile",)),
        "bus": Thing("1f68c"),
        "truck": Thing("1f69a"),
        "tractor": Thing("1f69c"),
    },
    "rides": {
        "bicycle": Thing("1f6b2", ("bike", "cycle")),
        "motorcycle": Thing("1f3cd"),
        "train": Thing("1f682", ("locomotive",)),
        "airplane": Thing("2708", ("aeroplane", "plane", "jet")),
    },
    "buildings": {
        "house": Thing("1f3e0", ("home",)),
        "church": Thing("26ea", ("chapel",)),
        "castle": Thing("1f3f0"),
        "factory": Thing("1f3ed"),
    },
    "household": {
        "chair": Thing("1fa91"),
        "couch": Thing("1f6cb"),
        "bed": Thing("1f6cf"),
        "clock": Thing("23f0"),
    },
}
"""Things by subgroup; those of a subgroup look alike."""
