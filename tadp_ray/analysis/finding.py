"""What an analysis finds: numbers, claims held against them, pictures; and the trained models that it asks for."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tadp_ray.config.cell import Cell


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper, and whether our numbers bear it out."""

    text: str
    value: float | None
    """None where what it needs was not trained."""
    aim: str
    holds: bool | None

    @property
    def sentence(self) -> str:
        """`all names raise ... (4.2; at least 0): holds`."""
        verdict = {True: "holds", False: "does not hold here", None: "not known, as trainings are missing"}[self.holds]
        value = "–" if self.value is None else f"{self.value:.3g}"
        return f"{self.text} ({value}; {self.aim}): {verdict}"


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
