"""What the cells of a plan write into the storage folder. Does not import Ray."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tadp_ray.config.cell import Cell
from tadp_ray.sweep.kinds import CellKind
from tadp_ray.wording import gib, pluralized


@dataclass(frozen=True)
class DiskUse:
    """Bytes that cells write, without what they share: latents and contexts."""

    cells: int
    """To train."""
    training: int
    """Of the largest cell while it trains."""
    finished: int
    """Of the largest finished cell."""
    most: int
    """Of all cells when the last ones train."""
    free: int | None
    """In the storage folder on this machine; None: files are kept at an address."""

    def line(self) -> str:
        """Return a line of these numbers."""
        lacking = " (too little)" if self.free is not None and self.free < self.most else ""
        free = "" if self.free is None else f"; {gib(self.free)} are free{lacking}"
        return (
            f"disk: a cell up to {gib(self.training)} while it trains and {gib(self.finished)} when it is finished, "
            f"{pluralized(self.cells, 'cells')} up to {gib(self.most)}, beside the latents and contexts that cells share{free}"
        )


def disk_use(todo: Sequence[Cell], kinds: Sequence[CellKind], at_once: int, storage: Path | None) -> DiskUse | None:
    """Return what the cells to train write; None if there are none.

    Args:
        todo: the cells to train.
        kinds: all selected cells by the cost of a step.
        at_once: how many train at once; 0: not known, and taken as one.
        storage: the folder on this machine; None: files are kept at an address.
    """
    if not todo:
        return None
    costs = {cell.fingerprint: kind.cost for kind in kinds for cell in kind.cells}
    written = sorted((costs[cell.fingerprint] for cell in todo), key=lambda cost: cost.training_disk_bytes)
    last = max(at_once, 1)
    most = sum(cost.finished_disk_bytes for cost in written[:-last])
    most += sum(cost.training_disk_bytes for cost in written[-last:])
    free = shutil.disk_usage(existing(storage)).free if storage else None
    return DiskUse(len(todo), written[-1].training_disk_bytes, written[-1].finished_disk_bytes, most, free)


def existing(folder: Path) -> Path:
    """Return the nearest folder that exists: this one, or one above it."""
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if place.is_dir())
