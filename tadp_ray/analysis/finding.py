"""What an analysis finds: numbers, claims held against them, pictures; and the trained models that it asks for."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tadp_ray.config.cell import Cell
from tadp_ray.config.vocabulary import ENOUGH

SEEDS = "seeds, e.g. seeds: [0, 1, 2] in its file"
"""What claims about trained models are short of."""


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper, and whether our numbers bear it out."""

    text: str
    value: float | None
    """None where what it needs was not trained."""
    aim: str
    holds: bool | None
    """None: not measured, or not judged."""
    unjudged: str | None = None
    """What must be done before it is judged, of a claim that could be."""

    @classmethod
    def among(cls, count: int, of: str, text: str, value: float, aim: str, holds: bool) -> "Claim":
        """A claim about so many seeds, images or cases; fewer than three do not tell their spread, and judge nothing."""
        few = None if count >= ENOUGH else f"needs {ENOUGH} {of}"
        return cls(text, value, aim, None if few else bool(holds), few)

    @property
    def sentence(self) -> str:
        """`all names raise ... (4.2; at least 0): holds`."""
        unknown = f"not judged: {self.unjudged}" if self.unjudged else "not known, as trainings are missing"
        verdict = {True: "holds", False: "does not hold here", None: unknown}[self.holds]
        value = "–" if self.value is None else f"{self.value:.3g}"
        return f"{self.text} ({value}; {self.aim}): {verdict}"


def standard_error(values: np.ndarray) -> float:
    """Of a mean over independent values (N,), from their sample standard deviation; NaN for a single one."""
    return float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else math.nan


@dataclass(frozen=True)
class Outcome:
    """What one analysis says."""

    numbers: Mapping[str, float]
    claims: Sequence[Claim]
    pictures: Sequence[str]
    """File names below the analysis' folder."""
    notes: Sequence[str] = ()
    """What is missing, with the command that fills it."""

    @property
    def told(self) -> dict[str, Any]:
        """What a finding's file says of it."""
        return {
            "numbers": dict(self.numbers),
            "claims": [asdict(claim) for claim in self.claims],
            "sentence": "; ".join(claim.sentence for claim in self.claims) + ".",
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Trained:
    """A model that a recipe trains, wherever it stands with it."""

    cell: Cell
    command: str
    """Which trains it."""
    metrics: Mapping[str, float] | None
    """Final ones; None: not trained yet."""
