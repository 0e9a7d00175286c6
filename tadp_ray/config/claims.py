"""Claims of experiments and analyses, and their verdicts. `tadp_ray.reporting.claims` evaluates them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from tadp_ray.config.vocabulary import METRIC, StrictModel
from tadp_ray.wording import shown

EXPERIMENT = "experiment"
"""The key of `Places` whose value is another experiment."""

Places = Annotated[
    dict[str, JsonValue],
    Field(
        description="entries of a table: axis -> a value or a list of values. An axis that is left out covers all of its values. "
        "metric: one of the table's metrics, by default the first. experiment: the table of another experiment, given as a file, "
        "relative to this one, or as the name of a shipped experiment"
    ),
]
"""A selection of a table's cells by the axes of its sweep."""


def within(places: Mapping[str, JsonValue], chosen: Mapping[str, JsonValue], metric: str) -> bool:
    """Whether a cell of a table is among some places.

    Args:
        places: as in a file.
        chosen: the cell's value on every axis, and its metric.
        metric: the table's first metric.
    """
    wanted = {METRIC: metric, **places}
    wanted.pop(EXPERIMENT, None)
    return all(
        chosen.get(axis) in (values if isinstance(values, list) else [values]) for axis, values in wanted.items()
    )


class _Gain(StrictModel):
    """How large the differences of a claim have to be."""

    min: float = Field(0, ge=0, description="minimum improvement, in the unit of the metric")
    min_standard_deviations: float = Field(
        0,
        description="minimum distance of the mean above zero, in standard deviations over seeds. If negative, the mean may lie "
        "this many standard deviations below zero. 0: the 95 % interval over seeds decides",
    )

    @model_validator(mode="after")
    def _one_aim(self) -> Self:
        # A mean that may lie below zero has no minimum.
        if self.min and self.min_standard_deviations < 0:
            raise ValueError(
                f"min: {self.min:g} does not go with min_standard_deviations: {self.min_standard_deviations:g}, which allows "
                "a loss; leave one out"
            )
        return self


class Difference(_Gain):
    """Claim that some entries of a table are better than others. Every difference must be large enough.

    Entries are compared at the same value of every axis that neither side names.
    """

    kind: Literal["difference"]
    text: str = Field(description="the claim in words")
    better: Places
    than: Places = {}

    @property
    def places(self) -> tuple[Mapping[str, JsonValue], ...]:
        """The places that the claim compares."""
        return self.better, self.than


class Rising(_Gain):
    """Claim that a table improves from each value of some axes to the next. Every step must be large enough."""

    kind: Literal["rising"]
    text: str = Field(description="the claim in words")
    along: tuple[str, ...] = Field(min_length=1, description="axes whose values are ordered from worse to better")
    at: Places = {}

    @property
    def places(self) -> tuple[Mapping[str, JsonValue], ...]:
        """The places that the claim compares."""
        return (self.at,)


class Ranking(StrictModel):
    """Claim that the entries of a table have the same order as the published ones (Spearman correlation of the means)."""

    kind: Literal["ranking"]
    text: str = Field(description="the claim in words")
    at: Places = {}
    min: float = Field(ge=-1, le=1, description="minimum correlation")

    @property
    def places(self) -> tuple[Mapping[str, JsonValue], ...]:
        """The places that the claim compares."""
        return (self.at,)


class Measure(StrictModel):
    """Claim that a number of an analysis lies on one side of a bound."""

    kind: Literal["measure"]
    text: str = Field(description="the claim in words, with the unit of the number")
    measure: str = Field(description="name of the number")
    min: float | None = Field(None, description="the number is at least this")
    above: float | None = Field(None, description="the number is more than this")
    max: float | None = Field(None, description="the number is at most this")
    min_standard_errors: float | None = Field(
        None, gt=0, description="the number is more than this many standard errors above zero"
    )
    max_share: float | None = Field(
        None, gt=0, description="the absolute value of the number is at most this fraction of another number"
    )
    max_share_of: str | None = Field(None, description="name of the other number, for max_share")

    @model_validator(mode="after")
    def _one_bound(self) -> "Measure":
        bounds = {name: getattr(self, name) for name in ("min", "above", "max", "min_standard_errors", "max_share")}
        if sum(bound is not None for bound in bounds.values()) != 1:
            raise ValueError(f"one bound is needed: {', '.join(bounds)}")
        if (self.max_share is None) != (self.max_share_of is None):
            raise ValueError("max_share and max_share_of belong together: a share of another number")
        return self


TableClaim = Annotated[Difference | Rising | Ranking, Field(discriminator="kind")]
"""A claim of an experiment on its table."""


@dataclass(frozen=True)
class Measured:
    """A number of an analysis."""

    value: float
    count: int | None = None
    """Number of seeds, images or cases. None: no minimum applies."""
    of: str = "images"
    """Unit of `count`."""
    error: float | None = None
    """Standard error, where a claim needs it."""
    by_seed: tuple[float, ...] = ()
    """The number within each seed, if `value` is their mean, whose interval then decides."""


class Verdict(BaseModel):
    """The result of a claim."""

    model_config = ConfigDict(frozen=True)

    text: str
    value: float | None = None
    """None: not measured."""
    aim: str
    holds: bool | None = None
    """None: not decided."""
    undecided: str | None = None
    """Next step before it can be decided. None: a number is missing."""
    figure: str | None = None
    """The value with its interval, its unit, and the number of seeds, images or cases."""

    @property
    def shown(self) -> str:
        """The value as text, e.g. `14.0 ± 1.9 [9.3, 18.7] points of mIoU (3 seeds)`."""
        return self.figure or shown(self.value)

    @property
    def unmeasured(self) -> bool:
        """Whether a number is missing, so that there is nothing to see yet."""
        return self.holds is None and self.undecided is None

    @property
    def verdict(self) -> str:
        """`holds`, `does not hold`, or `not decided: ...` with the next step or `not measured`."""
        if self.holds is not None:
            return "holds" if self.holds else "does not hold"
        return f"not decided: {self.undecided or 'not measured'}"

    @property
    def sentence(self) -> str:
        """`correct captions beat wrong ones (18.7 ± 2.2 [13.2, 24.2] points of mIoU (3 seeds); at least 0): holds`."""
        return f"{self.text} ({self.shown}; {self.aim}): {self.verdict}"
