"""What MLflow shows of a sweep: its table as numbers, and as a note in Markdown on the page of its run."""

from collections.abc import Iterator, Sequence

from tadp_ray.config.claims import Verdict
from tadp_ray.config.values import last_part
from tadp_ray.config.vocabulary import METRIC
from tadp_ray.reporting.closing import finding
from tadp_ray.reporting.escape import md
from tadp_ray.reporting.render import markdown
from tadp_ray.reporting.table import Table
from tadp_ray.tracking.run_spec import TAG_LENGTH

SPREAD = "sd"
"""Last part of the name of a standard deviation over seeds."""
ELSEWHERE = "\n\nThe rest is in the artifacts of this run: table.md, table.html and claims.md."


def numbers(table: Table) -> dict[str, float]:
    """Return the complete entries as metrics of the sweep's run, such as `miou/precision 0.5 recall 1.0`.

    The value is the mean over seeds; its standard deviation follows as `miou sd/...` if there are several.
    """
    found = {}
    for i, row in enumerate(table.entries):
        for j, entry in enumerate(row):
            if not entry.complete:
                continue
            place = " ".join(place_of(table, i, j))
            found[f"{entry.metric}/{place}"] = entry.mean
            if entry.sd is not None:
                found[f"{entry.metric} {SPREAD}/{place}"] = entry.sd
    return found


def place_of(table: Table, row: int, column: int) -> Iterator[str]:
    """Yield an entry's values on the axes: with the axis' last part for recipe keys, alone for named variants."""
    for side, index in ((table.spec.rows, row), (table.spec.columns, column)):
        for key, text in zip(side.keys, side.texts[index], strict=True):
            if key != METRIC:
                yield f"{last_part(key)} {text}" if "." in key else text


def note(table: Table, verdicts: Sequence[Verdict], links: Sequence[str] = ()) -> str:
    """Return the note on a sweep: links, what it found, its question, its table, and the verdicts on its claims.

    MLflow shows the first lines until a person asks for more, and limits a note's length: what does not fit is left out, and the
    files have it.
    """
    parts = [" · ".join(links), f"**{md(finding(table))}**", md(table.spec.question), markdown(table)]
    parts += ["\n".join(f"- {md(own.sentence)}" for own in verdicts)]
    text, whole = "", True
    for part in filter(None, (part.strip() for part in parts)):
        longer = f"{text}\n\n{part}" if text else part
        if len(longer) > TAG_LENGTH - len(ELSEWHERE):
            whole = False
            continue
        text = longer
    return text if whole else text + ELSEWHERE
