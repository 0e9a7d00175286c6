"""The rules that every group of YAML keys keeps, and the words that several groups share."""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict

Scale = Literal["pocket", "paper"]


ENOUGH = 3
"""Seeds, images or cases without which no claim is judged: fewer do not tell how far they spread."""


METRIC = "metric"
"""What a table's side calls the axis of several metrics."""


Maps = Literal["none", "cross", "cross+self"]


Style = Literal["photo", "night", "watercolor", "comic"]


MatchRule = Literal["recorded", "exact", "synonyms", "similar"]


BACKGROUND = "background"
"""The class of what belongs to no other class, where a data set has it (Pascal VOC)."""


CAPTION = "{caption}"
"""Where a modifier's sentence takes up the caption."""


OPEN_ADDRESS = (
    "holds a password, a key or a token, which would be written into journals and MLflow; leave it out of the address, and "
    "give it by the environment (such as AWS_SECRET_ACCESS_KEY)"
)
"""What is wrong with an address that opens by itself."""


NAME_MAX = 255
"""Bytes of the longest file name."""


def at_home(path: str) -> str:
    """A path with its leading ~ or ~NAME replaced by that user's home folder, as shells do it.

    Raises:
        ValueError: the path is empty or longer than file systems have them, or there is no such user.
    """
    if not path.strip():
        raise ValueError("expected a path, found an empty text")
    if any(len(part.encode()) > NAME_MAX for part in path.split("/")):
        raise ValueError(f"no file system has names of more than {NAME_MAX} bytes")
    found = os.path.expanduser(path)
    if found.startswith("~"):
        user = path.partition("/")[0]
        raise ValueError(f"nobody here is called {user[1:]!r}; a folder of that name is ./{user}")
    return found


def _expanded(value: object) -> object:
    return at_home(value) if isinstance(value, str) else value


ExpandedPath = Annotated[Path, BeforeValidator(_expanded)]
"""A file or folder; ~ is the home folder."""


PlaceText = Annotated[str, BeforeValidator(_expanded)]
"""A file or folder, or the name of something else; ~ is the home folder."""


class StrictModel(BaseModel):
    """A frozen group of keys; an unknown key is an error, a number must be finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
