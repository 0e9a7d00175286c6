"""Notes below a table: which cells are missing, what was cut, and where the numbers come from."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from tadp_ray.config.cell import Cell, each_once
from tadp_ray.config.table import TableSpec
from tadp_ray.tracking.query import CellRow, short
from tadp_ray.training.provenance import THEN
from tadp_ray.wording import first_few, pluralized


def incomplete_notes(
    spec: TableSpec, cells: Sequence[Cell], rows: Mapping[str, CellRow], failed: Mapping[str, str]
) -> list[str]:
    """Return notes on failed cells, missing cells, and cells whose metric is not finite."""
    reasons = {fingerprint: error.strip().partition("\n")[0] for fingerprint, error in failed.items()}
    notes = [f"{cell.name} failed: {reasons[cell.fingerprint]}" for cell in cells if cell.fingerprint in reasons]
    for cell in cells:
        for metric in spec.metrics if cell.fingerprint in rows else ():
            value = rows[cell.fingerprint].metrics[metric]
            if not math.isfinite(value):
                notes.append(f"{cell.name} ended with {metric} = {value}, so its entry shows no mean")
    trainings = each_once(cells)
    missing = [cell.name for cell in trainings if cell.fingerprint not in rows and cell.fingerprint not in failed]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        notes.append(
            f"{len(missing)} of {pluralized(len(trainings), 'cells')} {verb} not finished: {first_few(missing, separator='; ')}"
        )
    return notes


def scale_note(cells: Sequence[Cell]) -> list[str]:
    """Return a note if cells have several scales, as those of an axis over weights do."""
    scales = sorted({cell.scale for cell in cells})
    return [f"scale: the table contains cells of several scales ({', '.join(scales)})"] if len(scales) > 1 else []


def cut_note(cells: Sequence[Cell], rows: Mapping[str, CellRow]) -> list[str]:
    """Return a note if the text encoder did not read all prompts to their ends."""
    found = [rows[cell.fingerprint].metrics for cell in each_once(cells) if cell.fingerprint in rows]
    cut = [max(own.get(f"caption/{split}_truncated", 0) for split in ("train", "val")) for own in found]
    if not any(cut):
        return []
    return [
        f"captions: in {sum(map(bool, cut))} of {pluralized(len(cut), 'training runs')}, the text encoder truncated the prompts "
        f"of up to {max(cut):.0f} images of a split (caption/train_truncated, caption/val_truncated)"
    ]


def code_note(cells: Sequence[Cell], rows: Mapping[str, CellRow]) -> list[str]:
    """Return a note if the numbers do not all come from one clean commit."""
    commits = Counter(rows[cell.fingerprint].commit or "unknown" for cell in cells if cell.fingerprint in rows)
    dirty = any("+dirty" in commit for commit in commits)
    if len(commits) < 2 and not dirty and not any(THEN in commit for commit in commits):
        return []
    return [origin_note("code", commits, short) + "; +dirty means uncommitted changes" * dirty]


def machine_notes(cells: Sequence[Cell], rows: Mapping[str, CellRow]) -> list[str]:
    """Return a note for each library, and one for the hardware, that is not the same for all numbers."""
    found = [rows[cell.fingerprint] for cell in cells if cell.fingerprint in rows]
    names = dict.fromkeys(name for row in found for name in row.code if name != "code")
    told = {name: Counter(row.code.get(name, "unknown") for row in found) for name in names}
    told["hardware"] = Counter(row.hardware or "unknown" for row in found)
    return [origin_note(name, counts) for name, counts in told.items() if len(counts) > 1]


def origin_note(name: str, counts: Counter[str], shown: Callable[[str], str] = str) -> str:
    """Return what the cells come from, the most frequent first, e.g. `torch: 2.9 (3 cells), 2.10 (1 cell)`."""
    return f"{name}: " + ", ".join(
        f"{shown(value)} ({pluralized(count, 'cells')})" for value, count in counts.most_common()
    )
