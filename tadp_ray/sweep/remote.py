"""Cells whose storage is at an address.

A cell is trained in a folder of its node, and a thread copies what is new to the address. The command follows the journals
there; a node that takes a cell up makes its folder equal to the address first. Only what is at the address counts: what a lost
node had trained beyond that is trained again.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from tadp_ray.config.cell import Cell
from tadp_ray.config.fingerprint import sha256_of
from tadp_ray.errors import UserError
from tadp_ray.files import acquire_lock, drafted, is_draft
from tadp_ray.layout import ALIVE, CHECKPOINT, JOURNAL, LOCK, NUMBERED_CHECKPOINT, TRACEBACK, WORKER_LOG
from tadp_ray.sweep.address import LOST, Remote, place
from tadp_ray.sweep.periodic import run_periodically
from tadp_ray.training.reporter import checkpoints, previous_checkpoint

PERIOD = 2.0
"""Seconds between two looks for what is new: a node's at its folder, the command's at the address."""
PATIENCE = 300.0
"""Seconds for which a cell's last files are offered to an address that does not take them."""
State = tuple[int, int, int]
"""(inode, bytes, time of writing) of a file."""


class SyncedFolder:
    """A cell's folder on a node, and what the address holds of it."""

    def __init__(self, remote: Remote, folder: Path) -> None:
        self._remote, self._folder, self._place = remote, folder, place(folder)
        self._sent: dict[str, State] = {}
        """By name: the state in which a file was sent or fetched."""
        self._numbered: list[str] = []
        """The checkpoints at the address, oldest first."""

    def fetch(self) -> None:
        """Make the folder equal to the address.

        Raises:
            UserError: another process trains this cell here, or the address cannot be read.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = acquire_lock(self._folder / LOCK, patience=60)
        try:
            self.clear()
            self._remote.make_folder(self._place)
            names = [name for name in self._remote.names(self._place) if name != ALIVE]
            self._numbered = [name for name in names if name.startswith(NUMBERED_CHECKPOINT)]
            targets = {name: self._folder / name for name in names if name not in self._numbered}
            newest = self._folder / CHECKPOINT
            targets |= zip(reversed(self._numbered), (newest, previous_checkpoint(newest)), strict=False)
            for name, target in targets.items():
                self._remote.fetch(f"{self._place}/{name}", target)
                self._sent[target.name] = state(target)
        except LOST as error:
            raise self._remote.away(error) from None
        finally:
            lock.release()

    def push(self) -> None:
        """Make the address equal to the folder.

        There, too, a journal must tell of every step that a checkpoint holds, and say that its cell is finished when all else
        is in place. So the checkpoint is opened before the journal is read, and sent after it; all else is looked for after
        the journal was read, and sent before it.
        """
        over = not checkpoints(self._folder)
        journal, checkpoint = self._folder / JOURNAL, self._folder / CHECKPOINT
        with self._news(checkpoint) as numbered, self._news(journal) as record:
            told = BytesIO(record.read()) if record else None
            for path in self._files():
                if path not in (journal, checkpoint, previous_checkpoint(checkpoint)):
                    with self._news(path) as file:
                        if file:
                            self._remote.replace(file, f"{self._place}/{path.name}")
            if told:
                self._remote.replace(told, f"{self._place}/{JOURNAL}")
            if numbered:
                number = 1 + int(self._numbered[-1].removeprefix(NUMBERED_CHECKPOINT)) if self._numbered else 1
                self._remote.write(numbered, f"{self._place}/{NUMBERED_CHECKPOINT}{number:06}")
                self._numbered.append(f"{NUMBERED_CHECKPOINT}{number:06}")
                self._forget(self._numbered[:-1])
        if over:
            self._forget(self._numbered)

    def push_at_last(self) -> None:
        """The same, of a folder that nobody writes any more.

        Raises:
            UserError: the address did not take it for `PATIENCE` seconds.
        """
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.push()
                return self._remote.delete(f"{self._place}/{ALIVE}")
            except LOST as error:
                if time.monotonic() > deadline:
                    raise self._remote.away(error) from None
                time.sleep(PERIOD)

    def clear(self) -> None:
        """Empty the folder."""
        for path in self._folder.iterdir():
            if path.name != LOCK:
                path.unlink()
        self._sent.clear()

    def _files(self) -> list[Path]:
        return sorted(path for path in self._folder.iterdir() if path.name != LOCK and not is_draft(path))

    @contextmanager
    def _news(self, path: Path) -> Iterator[BinaryIO | None]:
        """A file that is not as it was sent, for sending it in this block; None if there is nothing new."""
        found = state(path) if path.is_file() else None
        if found is None or found == self._sent.get(path.name):
            yield None
            return
        with path.open("rb") as file:
            yield file
        self._sent[path.name] = found

    def _forget(self, numbered: Sequence[str]) -> None:
        for name in numbered:
            self._remote.delete(f"{self._place}/{name}")
        self._numbered = [name for name in self._numbered if name not in numbered]


def state(path: Path) -> State:
    """What changes when a file is written."""
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def node_folder(address: str) -> Path:
    """Where a node keeps what belongs to an address: cells in training, latents and contexts."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "tadp_ray" / sha256_of(address)[:16]


@contextmanager
def on_node(cell: Cell, fetches: bool = True, is_main_process: bool = True) -> Iterator[Cell]:
    """The cell as this node trains it: where storage is an address, in a folder of the node's that the address follows.

    Args:
        cell: as the sweep knows it.
        fetches: whether this process, of those that train the cell on this node, makes the folder equal to the address.
        leads: whether this process writes there, and tells the address.

    Raises:
        UserError: the address does not answer.
    """
    if (address := cell.recipe.compute.address) is None:
        yield cell
        return
    here = cell.at(node_folder(address))
    copy = SyncedFolder(Remote(address), here.folder)
    if fetches:
        copy.fetch()
    if not is_main_process:
        yield here
        return
    try:
        with run_periodically(PERIOD, copy.push, LOST):
            yield here
    finally:
        copy.push_at_last()
        copy.clear()


@contextmanager
def mirrored(address: str | None, cells: Sequence[Cell]) -> Iterator[None]:
    """Have here, during this block and after it, what is at an address about some cells.

    Raises:
        UserError: the address cannot be read at the end.
    """
    if address is None:
        yield
        return
    remote = Remote(address)
    try:
        with run_periodically(PERIOD, lambda: pull_cells(remote, cells), (UserError,)):
            yield
    finally:
        pull_cells(remote, cells)


def pull(address: str | None, cells: Sequence[Cell]) -> None:
    """Copy here what is new at an address about some cells; checkpoints stay there.

    Raises:
        UserError: the address cannot be read.
    """
    if address is not None and cells:
        pull_cells(Remote(address), cells)


def pull_cells(remote: Remote, cells: Sequence[Cell]) -> None:
    """The same, at an address that is open already.

    Raises:
        UserError: the address cannot be read.
    """
    folders = [cell.folder for cell in cells]
    try:
        sizes = remote.sizes([f"{place(folder)}/{JOURNAL}" for folder in folders])
        for folder, size in zip(folders, sizes, strict=True):
            journal = folder / JOURNAL
            if size > (journal.stat().st_size if journal.is_file() else 0):
                folder.mkdir(parents=True, exist_ok=True)
                pull_cell(remote, folder)
    except LOST as error:
        raise remote.away(error) from None


def pull_cell(remote: Remote, folder: Path) -> None:
    """Copy a cell's journal here, and first what tells of its failure, or all that belongs to it if it is finished."""
    there = place(folder)
    with drafted(folder / JOURNAL) as draft:
        remote.fetch(f"{there}/{JOURNAL}", draft)
        finished = b'"type": "finished"' in draft.read_bytes()
        for name in remote.names(there):
            if name in (TRACEBACK, WORKER_LOG) or (
                finished and name not in (JOURNAL, ALIVE) and not name.startswith(NUMBERED_CHECKPOINT)
            ):
                remote.fetch(f"{there}/{name}", folder / name)
