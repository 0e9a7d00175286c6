"""What the pocket tables show and what they do not: claims that one place is higher than another, each with its aim."""

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tadp_ray.config.vocabulary import ENOUGH
from tadp_ray.reporting.table import Table

Place = tuple[str, str, str]
"""Experiment, row and column."""
Values = Mapping[Place, Mapping[int, float]]
"""By place, the metric of every seed."""
Steps = Sequence[tuple[Place, Place]]
"""(lower, higher)."""


@dataclass(frozen=True)
class Claim:
    """The second place of every step is higher than the first; the smallest step decides.

    A step is the mean, over the seeds that both places have, of the difference within a seed; its spread is the sample
    standard deviation. Fewer than three seeds do not tell the spread, so that nothing is judged by them.
    """

    text: str
    steps: Steps
    least: float = 0.0
    """Points of mIoU that the smallest step must have."""
    spreads: float = 0.0
    """How many standard deviations the mean must lie above zero. If negative, it may lie this many below zero."""

    @property
    def aim(self) -> str:
        """`at least 8 and 5 SD`."""
        if self.spreads < 0:
            return f"at least 0, less {-self.spreads:g} SD"
        return f"at least {self.least:g}" + (f" and {self.spreads:g} SD" if self.spreads else "")

    def judge(self, values: Values) -> "Finding":
        """Hold the claim against the values of every seed of every complete place."""
        if any(place not in values for step in self.steps for place in step):
            return Finding(self.text, self.aim)
        gaps = [
            [values[high][seed] - values[low][seed] for seed in values[low] if seed in values[high]]
            for low, high in self.steps
        ]
        if not all(gaps):
            return Finding(self.text, self.aim, unjudged=f"its places share no seed; run {SEEDS}")
        smallest = min(gaps, key=statistics.fmean)
        mean = statistics.fmean(smallest)
        sd = statistics.stdev(smallest) if len(smallest) > 1 else None
        if min(map(len, gaps)) < ENOUGH:
            return Finding(self.text, self.aim, len(smallest), mean, sd, unjudged=f"run {SEEDS}")
        bound = self.spreads * sd if self.spreads < 0 else max(self.least, self.spreads * sd)
        return Finding(self.text, self.aim, len(smallest), mean, sd, mean >= bound)


@dataclass(frozen=True)
class Finding:
    """What the runs say of a claim."""

    claim: str
    aim: str
    seeds: int = 0
    mean: float | None = None
    """The smallest step in points of mIoU; None where places are missing."""
    sd: float | None = None
    """None for one seed."""
    holds: bool | None = None
    """None: not measured, or not judged."""
    unjudged: str | None = None
    """What must be done before it is judged."""

    @property
    def value(self) -> str | None:
        """`14.0 ± 1.9 points of mIoU (3 seeds)`, without a spread for one seed; None where places are missing."""
        if self.mean is None:
            return None
        spread = "" if self.sd is None else f" ± {self.sd:.1f}"
        return f"{self.mean:.1f}{spread} points of mIoU ({self.seeds} seed{'s' if self.seeds > 1 else ''})"


SEEDS = "--seeds " + ",".join(map(str, range(ENOUGH)))
PARTS = ("0.5", "0.75", "1.0")
"""The precisions and recalls of prec_recall.yaml."""
EXPERIMENTS = ("prec_recall", "pocket_controls", "pocket_pretraining", "pocket_styles")
"""Whose tables the claims are about."""


def grid(precision: str, recall: str) -> Place:
    """A place of prec_recall.yaml."""
    return "prec_recall", precision, recall


def few(source: str, start: str = "pretrained") -> Place:
    """A place of pocket_controls.yaml with 300 labels."""
    return "pocket_controls", source, f"{start}, 300"


def other(precision: str, recall: str) -> Place:
    """A place of pocket_pretraining.yaml with the model that is not shipped."""
    return "pocket_pretraining", "runs/pocket_seed1", f"{precision}, {recall}"


BEST, NULL, ORACLE = grid("1.0", "1.0"), few("null"), few("oracle")
GRID = [grid(*place) for place in itertools.product(PARTS, PARTS)]
NEIGHBOURS = [
    step
    for low, high in itertools.pairwise(PARTS)
    for part in PARTS
    for step in ((grid(part, low), grid(part, high)), (grid(low, part), grid(high, part)))
]
CLAIMS = (
    Claim("right and whole captions are best of the nine", [(place, BEST) for place in GRID if place != BEST]),
    Claim("empty captions are below all nine, but for noise", [(NULL, place) for place in GRID], spreads=-1),
    Claim("more precision or more recall is better, but for noise", NEIGHBOURS, spreads=-1),
    Claim("naming everything beats naming half", [(grid("1.0", "0.5"), BEST)], least=8, spreads=5),
    Claim("the same with another pretraining", [(other("1.0", "0.5"), other("1.0", "1.0"))], least=8, spreads=5),
    Claim("right captions beat another image's", [(few("shuffled"), ORACLE)]),
    Claim("right captions beat wrong ones", [(few("wrong"), ORACLE)]),
    Claim("pretraining helps, with right captions and 300 labels", [(few("oracle", "random"), ORACLE)], least=15),
    *(
        Claim(
            f"photographs are easier than {style}",
            [(("pocket_styles", "oracle", f"miou/{style}"), ("pocket_styles", "oracle", "miou"))],
            least=10,
        )
        for style in ("night", "watercolor", "comic")
    ),
)


def findings(tables: Mapping[str, Table | None]) -> list[Finding]:
    """Every claim of the pocket laboratory, in the order of its argument.

    Args:
        tables: by experiment, as far as they were run.
    """
    values = {
        (name, entry.row, entry.column): dict(zip(entry.seeds, entry.values, strict=True))
        for name, table in tables.items()
        for entry in itertools.chain.from_iterable(table.entries if table else ())
        if entry.complete
    }
    return [claim.judge(values) for claim in CLAIMS]
