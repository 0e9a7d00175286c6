"""Cells whose storage is remote.

A cell is trained in a local folder of its node, and a thread copies new files to the address. The command reads the journals
there. A node that starts or resumes a cell first makes its folder equal to the address. Only what is at the address counts:
steps that a lost node trained after its last copy are trained again.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from tadp_ray.config.cell import Cell
from tadp_ray.config.fingerprint import sha256_of
from tadp_ray.errors import UserError
from tadp_ray.files import FileState, drafted, file_state, is_draft, locked, user_cache
from tadp_ray.layout import (
    ALIVE,
    BEST,
    CHECKPOINT,
    JOURNAL,
    LOCK,
    NUMBERED_CHECKPOINT,
    STOPPED,
    TRACEBACK,
    WORKER_LOG,
)
from tadp_ray.sweep.address import REMOTE_ERRORS, Remote, reach, remote_path, retry, sizes_of, unusable
from tadp_ray.sweep.periodic import run_periodically
from tadp_ray.training.journal import final_metrics
from tadp_ray.training.reporter import LOCK_SECONDS, checkpoints, previous_checkpoint

log = logging.getLogger(__name__)

PERIOD = 2.0
"""Seconds between two synchronizations: of a node's folder to the address, and of the address to the command's folder."""


class SyncedFolder:
    """A cell's folder on a node, synchronized with the address; of the address's files only some, if these are named."""

    def __init__(self, remote: Remote, folder: Path, only: Sequence[str] = ()) -> None:
        self._remote, self._folder, self._path, self._only = remote, folder, remote_path(folder), only
        self._sent: dict[str, FileState] = {}
        """By name: the state of a file when it was sent or fetched."""
        self._numbered: list[str] = []
        """The checkpoints at the address, oldest first."""

    def fetch(self) -> None:
        """Make the folder equal to the address.

        Raises:
            UserError: another process trains this cell here, or the download failed for minutes.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with locked(self._folder / LOCK, LOCK_SECONDS):
            retry(self._remote.address, f"fetch {self._path}", self._fetch)

    def _fetch(self) -> None:
        self.clear()
        self._remote.make_folder(self._path)
        names = [name for name in self._remote.names(self._path) if name != ALIVE and name in (self._only or (name,))]
        self._numbered = [name for name in names if name.startswith(NUMBERED_CHECKPOINT)]
        targets = {name: self._folder / name for name in names if name not in self._numbered}
        newest = self._folder / CHECKPOINT
        targets |= zip(reversed(self._numbered), (newest, previous_checkpoint(newest)), strict=False)
        for name, target in targets.items():
            self._remote.fetch(f"{self._path}/{name}", target)
            self._sent[target.name] = file_state(target)

    def push(self) -> None:
        """Make the address equal to the folder.

        At the address, too, a journal must hold every step of the checkpoint, and may say that the cell is finished only when
        all other files are there. So the checkpoint is opened before the journal is read, and sent after it; the other files
        are listed after the journal was read, and sent before it.
        """
        journal, checkpoint = self._folder / JOURNAL, self._folder / CHECKPOINT
        no_checkpoint = not checkpoints(self._folder)
        # Without its journal the folder itself was emptied, and not by the training.
        deletes = journal.is_file()
        with self._if_changed(checkpoint) as numbered, self._if_changed(journal) as record:
            records = BytesIO(record.read()) if record else None
            for path in self._files():
                if path not in (journal, checkpoint, previous_checkpoint(checkpoint)):
                    with self._if_changed(path) as file:
                        if file:
                            self._remote.replace(file, f"{self._path}/{path.name}")
            kept = (JOURNAL, CHECKPOINT, previous_checkpoint(checkpoint).name)
            gone = [name for name in self._sent if name not in kept and not (self._folder / name).exists()]
            for name in gone if deletes else ():
                self._remote.delete(f"{self._path}/{name}")
                del self._sent[name]
            if records:
                self._remote.replace(records, f"{self._path}/{JOURNAL}")
            if numbered:
                number = 1 + int(self._numbered[-1].removeprefix(NUMBERED_CHECKPOINT)) if self._numbered else 1
                self._remote.write(numbered, f"{self._path}/{NUMBERED_CHECKPOINT}{number:06}")
                self._numbered.append(f"{NUMBERED_CHECKPOINT}{number:06}")
                self._delete_checkpoints(self._numbered[:-1])
        # One may have been written, and sent, since it was looked for.
        if deletes and no_checkpoint and numbered is None:
            self._delete_checkpoints(self._numbered)

    def push_final(self) -> None:
        """Push after the last write.

        Raises:
            UserError: the upload failed for minutes.
        """
        retry(self._remote.address, f"send {self._path}", self.push)

    def clear(self) -> None:
        """Empty the folder."""
        for path in self._folder.iterdir():
            if path.name != LOCK:
                path.unlink()
        self._sent.clear()

    def _files(self) -> list[Path]:
        return sorted(path for path in self._folder.iterdir() if path.name != LOCK and not is_draft(path))

    @contextmanager
    def _if_changed(self, path: Path) -> Iterator[BinaryIO | None]:
        """Open a file that has changed since it was sent, to send it in the block; None if it has not."""
        current = file_state(path) if path.is_file() else None
        if current is None or current == self._sent.get(path.name):
            yield None
            return
        with path.open("rb") as file:
            yield file
        self._sent[path.name] = current

    def _delete_checkpoints(self, numbered: Sequence[str]) -> None:
        for name in numbered:
            self._remote.delete(f"{self._path}/{name}")
        self._numbered = [name for name in self._numbered if name not in numbered]


def node_folder(address: str) -> Path:
    """Return the node's folder for the cells, latents and contexts of an address."""
    return user_cache() / sha256_of(address)[:16]


@contextmanager
def on_node(cell: Cell, fetches: bool = True, is_main_process: bool = True, only: Sequence[str] = ()) -> Iterator[Cell]:
    """Yield the cell as this node trains it: with remote storage, in a local folder that is synchronized with the address.

    Args:
        cell: as the sweep has it.
        fetches: whether this process fetches the folder, which one process per node does.
        is_main_process: whether this process writes the folder and pushes it.
        only: names of the files to fetch; the others at the address stay as they are. Empty: all files.

    Raises:
        UserError: the address could not be reached for minutes.
    """
    if (address := cell.recipe.compute.storage_address) is None:
        yield cell
        return
    here = cell.at(node_folder(address))
    copy = SyncedFolder(reach(address), here.folder, only)
    if fetches:
        copy.fetch()
    if not is_main_process:
        yield here
        return
    try:
        with run_periodically(PERIOD, copy.push, REMOTE_ERRORS):
            yield here
    finally:
        copy.push_final()
        copy.clear()


@contextmanager
def mirror(address: str | None, cells: Sequence[Cell]) -> Iterator[None]:
    """Keep local copies of cells' files at an address up to date during the block.

    Raises:
        UserError: the address cannot be read at the end.
    """
    if address is None:
        yield
        return
    remote, followed = Remote(address), list(cells)

    def follow() -> None:
        pull_cells(remote, followed)
        followed[:] = [cell for cell in followed if final_metrics(cell.folder, cell.fingerprint) is None]

    try:
        with run_periodically(PERIOD, follow, (UserError,)):
            yield
    finally:
        pull_cells(remote, cells)


def pull(address: str | None, cells: Sequence[Cell]) -> None:
    """Download new files of cells from an address, without checkpoints.

    A finished training here is kept, wherever it was trained. An unfinished one of another storage gets another name.

    Raises:
        UserError: the address cannot be read.
    """
    if address is None:
        return
    if unfinished := [cell for cell in cells if final_metrics(cell.folder, cell.fingerprint) is None]:
        remote = Remote(address)
        set_aside(remote, unfinished)
        pull_cells(remote, unfinished)


def set_aside(remote: Remote, cells: Sequence[Cell]) -> None:
    """Rename the folders of trainings that are not those at the address: their journals differ from its, or it has none.

    Raises:
        UserError: the address cannot be read.
    """
    here = {cell.folder: path.read_bytes() for cell in cells if (path := cell.folder / JOURNAL).is_file()}
    names = [f"{remote_path(folder)}/{JOURNAL}" for folder in here]
    try:
        sizes = remote.sizes(names)
        for (folder, journal), name, size in zip(here.items(), names, sizes, strict=True):
            if not (remote.read(name) if size else b"").startswith(journal):
                aside = archived(folder)
                log.warning("%s is not the training of %s there; it is kept as %s", folder, remote.address, aside)
                folder.rename(aside)
    except REMOTE_ERRORS as error:
        raise unusable(remote.address, error) from None


def archived(folder: Path) -> Path:
    """Return the name under which a cell's folder is kept when the cell is trained again."""
    return folder.with_name(f"{folder.name}.{(folder / JOURNAL).stat().st_mtime_ns}")


def pull_cells(remote: Remote, cells: Sequence[Cell]) -> None:
    """Download new files of cells from an open address, without checkpoints.

    Raises:
        UserError: the address cannot be read.
    """
    try:
        for folder, size in sizes_of(remote, JOURNAL, [cell.folder for cell in cells]).items():
            journal = folder / JOURNAL
            if size != (journal.stat().st_size if journal.is_file() else 0):
                folder.mkdir(parents=True, exist_ok=True)
                pull_cell(remote, folder)
    except REMOTE_ERRORS as error:
        raise unusable(remote.address, error) from None


def pull_cell(remote: Remote, folder: Path) -> None:
    """Download a cell's journal; before it, the files on how it ended, or all its files if it is finished."""
    there = remote_path(folder)
    with drafted(folder / JOURNAL) as draft:
        remote.fetch(f"{there}/{JOURNAL}", draft)
        finished = b'"type": "finished"' in draft.read_bytes()
        names = remote.names(there)
        for name in {TRACEBACK, WORKER_LOG, STOPPED, BEST}.difference(names):
            (folder / name).unlink(missing_ok=True)
        for name in names:
            if name in (TRACEBACK, WORKER_LOG, STOPPED) or (
                finished and name not in (JOURNAL, ALIVE) and not name.startswith(NUMBERED_CHECKPOINT)
            ):
                remote.fetch(f"{there}/{name}", folder / name)
