"""A search file: ranges of recipe keys, and when a candidate is stopped."""

from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from tadp_ray.config.vocabulary import StrictModel


class Range(StrictModel):
    """The range from which a number is drawn."""

    low: float
    high: float
    scale: Literal["log", "linear"] = Field(
        "log", description="log: draw uniformly in the logarithm; linear: draw uniformly"
    )

    @model_validator(mode="after")
    def _ordered(self) -> "Range":
        if self.low >= self.high or (self.scale == "log" and self.low <= 0):
            raise ValueError(f"expected low below high, and above 0 for scale: log, not {self.low:g} and {self.high:g}")
        return self

    def draw(self, rng: np.random.Generator) -> float:
        """Draw a number from the range, rounded to three significant digits."""
        if self.scale == "linear":
            drawn = rng.uniform(self.low, self.high)
        else:
            drawn = np.exp(rng.uniform(np.log(self.low), np.log(self.high)))
        return min(max(float(f"{drawn:.3g}"), self.low), self.high)


class Search(StrictModel):
    """A hyperparameter search by asynchronous successive halving (ASHA)."""

    space: dict[str, Range] = Field(min_length=1, description="dotted recipe key -> its range")
    candidates: int = Field(16, ge=2, le=10_000, description="number of candidates to draw")
    grace_period: int = Field(
        ge=1,
        description="optimizer steps before a candidate may be stopped; also the interval between its evaluations",
    )
    reduction_factor: int = Field(
        3,
        ge=2,
        description="factor r: the best 1/r of the candidates continue after grace_period steps, after r times as many steps, "
        "and so on",
    )

    @property
    def rule(self) -> dict[str, int]:
        """What decides which candidates are stopped, beside their scores."""
        return {"grace_period": self.grace_period, "reduction_factor": self.reduction_factor}

    def draw(self, seed: int) -> list[dict[str, float]]:
        """Draw the candidates, each as values by recipe key."""
        rng = np.random.default_rng(seed)
        return [{key: values.draw(rng) for key, values in self.space.items()} for _ in range(self.candidates)]
