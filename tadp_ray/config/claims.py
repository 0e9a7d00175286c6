"""What an experiment or an analysis claims, and what its numbers say of it. `tadp_ray.reporting.claims` judges."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from tadp_ray.config.vocabulary import METRIC, StrictModel

EXPERIMENT = "experiment"
"""The key of places that names another experiment."""

Places = Annotated[
    dict[str, JsonValue],
    Field(
        description="axis -> its value, or a list of several; an axis that is left out takes all of its values. metric: one of "
        "several, else the table's first; experiment: whose table is meant, a file relative to this "
        "one or the name of a shipped experiment"
    ),
]
"""Some places of a table. Axes are the keys of its sweep."""
Points = Annotated[float, Field(ge=0, description="how far better, in the metric's unit")]
Deviations = Annotated[
    float,
    Field(
        description="how many standard deviations over seeds the mean must lie above zero; if negative, it may lie this many "
        "below zero"
    ),
]


def within(places: Mapping[str, JsonValue], chosen: Mapping[str, JsonValue], metric: str) -> bool:
    """Whether a place is one of some places.

    Args:
        places: as a file says them.
        chosen: the place's value on every axis, and its metric.
        metric: the table's first.
    """
    wanted = {METRIC: metric, **places}
    wanted.pop(EXPERIMENT, None)
    return all(
        chosen.get(axis) in (values if isinstance(values, list) else [values]) for axis, values in wanted.items()
    )


class Difference(StrictModel):
    """Some places of a table are better than others; the smallest of their differences decides."""

    kind: Literal["difference"]
    text: str = Field(description="the claim in words")
    better: Places
    than: Places = {}
    least: Points = 0
    deviations: Deviations = 0

    @property
    def places(self) -> tuple[Mapping[str, JsonValue], ...]:
        """What the claim is about."""
        return self.better, self.than


class Rising(StrictModel):
    """A table gets better from each value of some axes to the next; the smallest step decides."""

    kind: Literal["rising"]
    text: str = Field(description="the claim in words")
    along: tuple[str, ...] = Field(min_length=1, description="axes whose values follow each other from worse to better")
    at: Places = {}
    least: Points = 0
    deviations: Deviations = 0

    @property
    def places(self) -> tuple[Mapping[str, JsonValue], ...]:
        """What the claim is about."""
        return (self.at,)


class Ranking(StrictModel):
    """The places of a table are ordered as the published ones are: Spearman's rank correlation of their means."""

    kind: Literal["ranking"]
    text: str = Field(description="the claim in words")
    at: Places = {}
    least: float = Field(ge=-1, le=1, description="of the correlation")

    @property
    def places(self) -> tuple[Mapping[str, JsonValue], ...]:
        """What the claim is about."""
        return (self.at,)


class Measure(StrictModel):
    """A number that an analysis measures lies on one side of a bound."""

    kind: Literal["measure"]
    text: str = Field(description="the claim in words, with the unit of the number")
    measure: str = Field(description="which number of the analysis")
    least: float | None = Field(None, description="it is at least this")
    above: float | None = Field(None, description="it is more than this")
    most: float | None = Field(None, description="it is at most this")
    errors: float | None = Field(None, gt=0, description="it lies more than this many standard errors above zero")
    share: float | None = Field(None, gt=0, description="its size is at most this share of another number")
    of: str | None = Field(None, description="which other number")

    @model_validator(mode="after")
    def _one_bound(self) -> "Measure":
        bounds = {name: getattr(self, name) for name in ("least", "above", "most", "errors", "share")}
        if sum(bound is not None for bound in bounds.values()) != 1:
            raise ValueError(f"one bound is needed: {', '.join(bounds)}")
        if (self.share is None) != (self.of is None):
            raise ValueError("share and of belong together: a share of another number")
        return self


TableClaim = Annotated[Difference | Rising | Ranking, Field(discriminator="kind")]
"""What an experiment may claim of its table."""


@dataclass(frozen=True)
class Measured:
    """A number of an analysis."""

    value: float
    count: int | None = None
    """Over how many seeds, images or cases it was taken; None where that is no question."""
    of: str = "images"
    error: float | None = None
    """Standard error, where the claim is about it."""


class Verdict(BaseModel):
    """A claim held against what was measured."""

    model_config = ConfigDict(frozen=True)

    text: str
    value: float | None
    """None: not measured."""
    aim: str
    holds: bool | None
    """None: not decided."""
    undecided: str | None = None
    """What must be done before it is decided; None where the numbers are missing."""
    figure: str | None = None
    """The value with its interval, its unit, and over how many seeds, images or cases it was taken."""

    @property
    def shown(self) -> str:
        """`14.0 ± 1.9 points of mIoU (3 seeds)`."""
        return self.figure or ("–" if self.value is None else f"{self.value:.4g}")

    @property
    def verdict(self) -> str:
        """`holds`, `does not hold`, `not decided: run --seeds 0,1,2`, `not decided: not measured`."""
        if self.holds is not None:
            return "holds" if self.holds else "does not hold"
        return f"not decided: {self.undecided or 'not measured'}"

    @property
    def sentence(self) -> str:
        """`right captions beat wrong ones (18.7 ± 2.2 points of mIoU (3 seeds); at least 0): holds`."""
        return f"{self.text} ({self.shown}; {self.aim}): {self.verdict}"
