"""Everyday synonyms of class names, as people and captioners use them."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from tadp_ray.captions.alignment import exact
from tadp_ray.config.errors import nearest
from tadp_ray.config.yaml12 import parse_yaml, read_text
from tadp_ray.errors import UserError

SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "airplane": ("aeroplane", "plane", "jet", "airliner", "aircraft"),
    "ashcan": ("trash can", "garbage can", "dustbin", "bin"),
    "bear": ("grizzly",),
    "bicycle": ("bike", "cycle"),
    "boat": ("canoe", "sailboat", "ship", "kayak"),
    "building": ("skyscraper", "tower", "house"),
    "bus": ("coach", "double decker"),
    "camel": ("dromedary",),
    "car": ("automobile", "suv", "sedan", "van", "taxi"),
    "cat": ("kitten",),
    "chair": ("armchair", "stool"),
    "church": ("chapel",),
    "couch": ("sofa", "settee", "loveseat"),
    "cow": ("cattle", "bull", "calf", "ox"),
    "dining table": ("table", "desk"),
    "dog": ("puppy",),
    "donut": ("doughnut",),
    "doughnut": ("donut",),
    "earth": ("ground", "soil"),
    "grass": ("lawn", "meadow"),
    "horse": ("pony", "foal"),
    "house": ("home",),
    "motorcycle": ("motorbike", "scooter", "moped"),
    "path": ("trail",),
    "person": (
        *("man", "woman", "boy", "girl", "child", "baby", "lady", "guy", "rider", "player", "bride", "groom"),
        *("cyclist", "pedestrian", "kid", "toddler", "soldier", "persons"),
    ),
    "pig": ("sow",),
    "pine": ("evergreen",),
    "potted plant": ("plant", "houseplant", "pot plant"),
    "rabbit": ("bunny",),
    "refrigerator": ("fridge",),
    "road": ("street", "highway"),
    "rug": ("carpet",),
    "sheep": ("lamb", "ram", "ewe"),
    "sidewalk": ("pavement",),
    "sofa": ("couch", "settee", "loveseat"),
    "squirrel": ("chipmunk",),
    "stove": ("cooker",),
    "television": ("tv", "tv set", "monitor", "screen"),
    "train": ("locomotive", "tram"),
    "truck": ("lorry", "pickup"),
    "tv": ("television", "tv set", "monitor", "screen"),
    "vegetation": ("tree", "bush", "hedge"),
    "windowpane": ("window",),
}
"""Those of the pocket world (`data.drawings.SYNONYMS`) are among them. The choice is subjective, so a file can replace it."""


def everyday(classes: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Return the synonyms of the given classes."""
    return {name: words for name, words in SYNONYMS.items() if name in classes}


def mentioned_classes(texts: Mapping[str, str], classes: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Find the class names in texts by exact words and everyday synonyms."""
    match = exact(classes, everyday(classes))
    known = {text: match(text) for text in set(texts.values())}
    return {image_id: known[text] for image_id, text in texts.items()}


def read_synonyms(path: Path, classes: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Read synonyms from a YAML file: `name: [word, word]`.

    Raises:
        UserError: the file does not exist or is invalid, or a name is not a class.
    """
    found = parse_yaml(read_text(path), str(path))
    if not isinstance(found, dict):
        raise UserError(f"{path}: {found!r:.80}: expected class names, each with a list of words: `sofa: [couch]`")
    for name, words in found.items():
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise UserError(f"{path}: {name}={words!r:.80}: expected a class name with a list of words")
        if name not in classes:
            raise UserError(f"{path}: {name!r} is not a class of the data set; {nearest(str(name), list(classes))}")
    return {name: tuple(words) for name, words in found.items()}
