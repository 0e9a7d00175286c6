"""Drawings of things: 48 named things, each as five emoji families draw it, with exact outlines. Does not import torch.

`paper/pocket/atlas.py` made them; NOTICE.md beside them says who drew them, and under which licence.
"""

import hashlib
import json
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tadp_ray.errors import UserError

FOLDER = Path(str(resources.files("tadp_ray") / "assets/drawings"))
_INDEX: dict[str, Any] = json.loads((FOLDER / "index.json").read_text(encoding="utf-8"))

NAMES: tuple[str, ...] = tuple(_INDEX["things"])
SUBGROUPS: dict[str, tuple[str, ...]] = {
    subgroup: tuple(name for name, thing in _INDEX["things"].items() if thing["subgroup"] == subgroup)
    for subgroup in dict.fromkeys(thing["subgroup"] for thing in _INDEX["things"].values())
}
"""Names by subgroup; those of a subgroup look alike."""
SYNONYMS: dict[str, tuple[str, ...]] = {
    name: tuple(thing["synonyms"]) for name, thing in _INDEX["things"].items() if thing["synonyms"]
}
"""Other words for the same thing, where there are any; none is a name."""
FAMILIES: tuple[str, ...] = tuple(_INDEX["families"])
LICENCES: dict[str, str] = {family: about["licence"] for family, about in _INDEX["families"].items()}
"""SPDX identifiers by family."""
PERMISSIVE: tuple[str, ...] = tuple(family for family in FAMILIES if LICENCES[family] in ("Apache-2.0", "MIT"))
"""Families that a model under Apache-2.0 may be trained on; the others ask for attribution or for the same licence."""


def stamp(name: str, family: str) -> np.ndarray:
    """Return a drawing, uint8 (h, w, 4), max(h, w) = 96: straight (not premultiplied) sRGB and alpha. It is read-only.

    It is cropped to its outline; where alpha is 0, so are the colours.

    Raises:
        UserError: there is no such name or family.
    """
    if name not in _INDEX["things"]:
        raise UserError(f"no drawing of {name!r}; there are {', '.join(NAMES)}")
    if family not in FAMILIES:
        raise UserError(f"no family {family!r} of drawings; there are {', '.join(FAMILIES)}")
    left, top, width, height = _INDEX["things"][name]["boxes"][family]
    return _sheet(_INDEX["families"][family]["file"])[top : top + height, left : left + width]


@lru_cache
def _sheet(file: str) -> np.ndarray:
    with Image.open(FOLDER / file) as picture:
        pixels = np.array(picture)
    pixels.flags.writeable = False
    return pixels


@lru_cache
def digest() -> str:
    """Return the sha256 hex of all names, subgroups, synonyms and drawings."""
    total = hashlib.sha256(repr((SUBGROUPS, SYNONYMS, LICENCES)).encode())
    for family in FAMILIES:
        for name in NAMES:
            drawing = stamp(name, family)
            total.update(repr((family, name, drawing.shape)).encode())
            total.update(drawing.tobytes())
    return total.hexdigest()
