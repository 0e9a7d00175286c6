"""The base class of all groups of YAML keys, and the types and constants that several groups share."""

import operator
import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

H = TypeVar("H", bound=Hashable)
Scale = Literal["pocket", "paper"]


MIN_COUNT = 3
"""Minimum number of seeds, images or cases for a verdict on a claim; fewer give no usable spread."""


METRIC = "metric"
"""The axis of a table with several metrics."""


RESULT_COLUMNS = ("seed", "state", "run_id", "error", "fingerprint")
"""What is known of every cell beside its axes and its metrics."""


Maps = Literal["none", "cross", "cross+self"]


Denoiser = Literal["unet", "dit"]
"""Stable Diffusion's U-Net, or PixArt's diffusion transformer."""


Style = Literal["photo", "night", "watercolor", "comic", "sticker", "sketch"]


State = Literal["finished", "training", "failed", "stopped early", "interrupted", "not started"]
"""State of a cell; a search stops the worse candidates early."""


MatchRule = Literal["recorded", "exact", "synonyms", "similar"]


BACKGROUND = "background"
"""The name of a background class (Pascal VOC has one)."""


CAPTION = "{caption}"
"""Placeholder of the caption in a modifier."""


CREDENTIALS_IN_ADDRESS = (
    "holds a password, a key or a token, which would be written into journals and MLflow; leave it out of the address, and "
    "give it by the environment (such as AWS_SECRET_ACCESS_KEY)"
)
"""Error message for an address with credentials."""


NAME_MAX = 255
"""Maximum length of a file name in bytes."""


def expand_home(path: str) -> str:
    """Return a path with its leading ~ or ~NAME replaced by that user's home folder, as shells do.

    Raises:
        ValueError: the path is empty, a part of it is too long for a file name, or there is no such user.
    """
    if not path.strip():
        raise ValueError("expected a path, found an empty text")
    if any(len(part.encode()) > NAME_MAX for part in path.split("/")):
        raise ValueError(f"no file system has names of more than {NAME_MAX} bytes")
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        user = path.partition("/")[0]
        raise ValueError(f"nobody here is called {user[1:]!r}; a folder of that name is ./{user}")
    return expanded


def _expanded(value: object) -> object:
    return expand_home(value) if isinstance(value, str) else value


ExpandedPath = Annotated[Path, BeforeValidator(_expanded)]
"""A path; a leading ~ is expanded."""


ExpandedText = Annotated[str, BeforeValidator(_expanded)]
"""A path, or another name such as an address or a hub id; a leading ~ is expanded."""


def repeated(values: Iterable[H]) -> list[H]:
    """Return the values that occur more than once, each once."""
    return [value for value, count in Counter(values).items() if count > 1]


def distinct(values: Sequence[H]) -> Sequence[H]:
    """Return values, none of which is there twice (ValueError if one is)."""
    if repeated(values):
        raise ValueError(f"names one twice: {list(values)}")
    return values


SEED_MAX = 2**63 - 1
"""Largest random seed. Some stages add to it; torch takes 64 bits."""


def seeds_of(values: Iterable[Any]) -> tuple[int, ...]:
    """Return random seeds as Python's integers, also those of numpy (ValueError if they are none, or one counts twice)."""
    try:
        # Truth values are integers in Python, but no seeds.
        seeds = tuple(-1 if isinstance(value, bool) else operator.index(value) for value in values)
    except TypeError:
        seeds = ()
    if not seeds or not 0 <= min(seeds) <= max(seeds) <= SEED_MAX or len({*seeds}) < len(seeds):
        raise ValueError("expected distinct integers from 0 and below 2**63, e.g. 0,1,2")
    return seeds


Seeds = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1), AfterValidator(seeds_of)]
"""Random seeds of trainings. One that counted twice would make a spread too small."""


def told_by(key: str, default: object = None) -> Callable[[object], object]:
    """Return the function that reads the kind of a group at a key, for pydantic's `Discriminator`.

    The group is raw or validated; a raw one without the key is of the default kind.
    """
    return lambda group: group.get(key, default) if isinstance(group, Mapping) else getattr(group, key, None)


class StrictModel(BaseModel):
    """A frozen group of keys. Unknown keys and non-finite numbers are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
