"""What an analysis finds: numbers, claims held against them, pictures; and the trained models that it asks for."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tadp_ray.config.cell import Cell

FINDING = "finding.json"


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


@dataclass(frozen=True)
class Trained:
    """A model that a recipe trains, wherever it stands with it."""

    cell: Cell
    command: str
    """Which trains it."""
    metrics: Mapping[str, float] | None
    """Final ones; None: not trained yet."""


def write_finding(folder: Path, facts: Mapping[str, Any], outcome: Outcome) -> Path:
    """Write finding.json beside the pictures, whole or not at all.

    Args:
        folder: of this analysis.
        facts: name, question, figure_of_paper, command, settings, run_id, commit.
        outcome: what was found.
    """
    content = {
        **facts,
        "numbers": dict(outcome.numbers),
        "claims": [asdict(claim) for claim in outcome.claims],
        "sentence": "; ".join(claim.sentence for claim in outcome.claims) + ".",
        "notes": list(outcome.notes),
        "pictures": list(outcome.pictures),
    }
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f"{FINDING}.part"
    draft.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    draft.replace(folder / FINDING)
    return folder / FINDING
