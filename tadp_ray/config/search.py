"""A search file: which recipe keys are tried within which ranges, and when a candidate is given up."""

from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from tadp_ray.config.vocabulary import StrictModel


class Range(StrictModel):
    """Where a number is looked for."""

    low: float
    high: float
    scale: Literal["log", "linear"] = Field("log", description="log: each factor of ten is as likely as the next")

    @model_validator(mode="after")
    def _ordered(self) -> "Range":
        if self.low >= self.high or (self.scale == "log" and self.low <= 0):
            raise ValueError(f"expected low below high, and above 0 for scale: log, not {self.low:g} and {self.high:g}")
        return self

    def draw(self, rng: np.random.Generator) -> float:
        """A number of the range, to three digits."""
        if self.scale == "linear":
            return float(f"{rng.uniform(self.low, self.high):.3g}")
        return float(f"{np.exp(rng.uniform(np.log(self.low), np.log(self.high))):.3g}")


class Search(StrictModel):
    """Which settings are tried, by asynchronous successive halving (ASHA)."""

    space: dict[str, Range] = Field(min_length=1, description="dotted recipe key -> its range")
    candidates: int = Field(16, ge=2, le=10_000, description="settings that are drawn")
    grace_period: int = Field(
        ge=1, description="optimizer steps before a candidate may be given up; candidates are scored every so many"
    )
    reduction_factor: int = Field(
        3, ge=2, description="one in so many goes on, at first and whenever they came so many times as far"
    )

    def draw(self, seed: int) -> list[dict[str, float]]:
        """The candidates, each as the recipe keys that it sets."""
        rng = np.random.default_rng(seed)
        return [{key: place.draw(rng) for key, place in self.space.items()} for _ in range(self.candidates)]
