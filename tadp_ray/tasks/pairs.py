"""Pairs the files of two folders, predictions and targets, by name."""

from collections.abc import Callable
from pathlib import Path, PurePosixPath

from torch import Tensor

from tadp_ray.data.names import find_files
from tadp_ray.errors import UserError, raise_problems

Pair = tuple[Tensor, Tensor]
"""(prediction (H, W), target (H, W))."""
Read = Callable[[Path, Path], Pair]
"""Reads the files of a prediction and its target; raises UserError if they are invalid."""
Accumulate = Callable[[Tensor, Tensor], None]
"""Adds predictions (B, H, W) and targets (B, H, W) to metrics."""


def accumulate_pairs(
    predictions: Path, targets: Path, accumulate: Accumulate, read: Read
) -> dict[str, tuple[Path, Path]]:
    """Accumulate all pairs of two folders in order of their names; return the files (prediction, target) by name.

    Raises:
        UserError: files have no partner, or `read` failed for some pairs.
    """
    problems: list[str] = []
    found, wanted = by_name(predictions, problems), by_name(targets, problems)
    # Subfolders without a counterpart among the targets, such as figures, are ignored.
    folders = {PurePosixPath(stem).parent for stem in wanted}
    found = {stem: path for stem, path in found.items() if PurePosixPath(stem).parent in folders}
    problems += [f"{wanted[stem]}: no prediction of this name in {predictions}" for stem in wanted.keys() - found]
    problems += [f"{found[stem]}: no target of this name in {targets}" for stem in found.keys() - wanted]
    problems.sort()
    for stem in sorted(found.keys() & wanted):
        try:
            predicted, target = read(found[stem], wanted[stem])
        except UserError as error:
            problems.append(str(error))
        else:
            accumulate(predicted[None], target[None])
    raise_problems(problems)
    return {stem: (found[stem], wanted[stem]) for stem in sorted(wanted)}


def by_name(folder: Path, problems: list[str]) -> dict[str, Path]:
    """Return the files of a folder by their relative path without suffix; ambiguous names are added to `problems`.

    Hidden files and files of the operating system are skipped.

    Raises:
        UserError: the folder does not exist or is empty.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder")
    files: dict[str, Path] = {}
    for wild, path in find_files("**/*", folder):
        if (other := files.setdefault(str(wild), path)) != path:
            problems.append(f"{path}: differs from {other.name} by its ending alone; take one of them away")
    if not files:
        raise UserError(f"{folder}: holds no files")
    return files


def same_size(prediction: Path, found: tuple[int, ...], target: Path, truth: tuple[int, ...]) -> None:
    """Check that a prediction has the size of its target.

    Raises:
        UserError: the sizes differ.
    """
    if found != truth:
        raise UserError(
            f"{prediction}: is {tuple(found)} (height, width), its target {target} is {tuple(truth)}; "
            "predict at the target's size"
        )
