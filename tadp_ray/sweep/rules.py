"""Rules of which files of a finished cell may go. Imports little, since every command knows their names."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tadp_ray.files import is_draft
from tadp_ray.layout import BEST, MODEL, PREDICTED


@dataclass(frozen=True)
class Rule:
    """Files of a finished cell that may go."""

    files: Callable[[Path], list[Path]]
    """Returns them in a cell's folder."""
    loss: str = ""
    """What can be done no more without them; empty: nothing."""


def named(*names: str) -> Callable[[Path], list[Path]]:
    """Return a function that returns the files of these names in a folder."""
    return lambda folder: [folder / name for name in names if (folder / name).is_file()]


def leftovers(folder: Path) -> list[Path]:
    """Return the files of a finished cell's folder that nothing reads any more."""
    # Commands that only name the rules need none of it.
    from tadp_ray.training.reporter import checkpoints

    drafts = [file for file in sorted(folder.iterdir()) if file.is_file() and is_draft(file)]
    return [*checkpoints(folder), *named(BEST)(folder), *drafts]


RULES = {
    "checkpoints": Rule(leftovers),
    "predictions": Rule(named(PREDICTED)),
    "weights": Rule(
        named(MODEL),
        "predict, load_trained and the analyses of trained models need them; the cells stay finished and are not trained again",
    ),
}
DEFAULT_RULES = ("checkpoints", "predictions")
"""Rules whose files no table, no report and no `predict` needs."""
