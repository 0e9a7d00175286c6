"""Sends every journal below a storage folder to MLflow, in case the commands that wrote them could not."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tadp_ray.errors import UserError
from tadp_ray.files import acquire_lock, locked
from tadp_ray.layout import CELL, CELLS, JOURNAL, LOCK, PERSONALIZATION, PRETRAINING, SWEEP_LOCK
from tadp_ray.tracking.client import StoreError, first_line
from tadp_ray.tracking.personalization import read_job_run_spec
from tadp_ray.tracking.pretraining import read_pretraining_run_spec
from tadp_ray.tracking.run_spec import PARENT, RunSpec, read_cell_run_spec
from tadp_ray.tracking.sender import replay
from tadp_ray.tracking.store import Store

READERS: dict[str, Callable[[Any, Path], RunSpec]] = {
    CELL: read_cell_run_spec,
    PERSONALIZATION: read_job_run_spec,
    PRETRAINING: read_pretraining_run_spec,
}
"""Functions that read a journal's `RunSpec` from the record beside it, by the record's file name."""


def flush(store: Store, storage: Path, echo: Callable[[str], None]) -> None:
    """Send the records of all journals below `storage` that MLflow does not hold.

    Args:
        store: the store that the journals' commands used.
        storage: a folder like `runs`, or one above or below it.
        echo: called with a line for each journal that was sent or skipped, and a line on all of them.

    Raises:
        UserError: there is no journal, a sweep is running there, or MLflow fails; if only single journals fail, after the
            others were sent.
    """
    folders = sorted(path.parent for path in storage.absolute().rglob(JOURNAL))
    if not folders:
        raise UserError(f"{storage}: no journals below this folder; name the folder of compute.storage")
    counts, refused = [], 0
    with ExitStack() as locks:
        # A running sweep sends its cells itself, and two senders of one journal would create two runs.
        for parent in {folder.parents[1] for folder in folders if folder.parent.name == CELLS}:
            locks.enter_context(locked(parent / SWEEP_LOCK))
        for folder in folders:
            try:
                line, count = flush_one(store, folder)
            except (UserError, OSError) as error:
                # Raises if the store itself is unreachable.
                store.client.search_experiments(max_results=1)
                line, count, refused = f"{folder}: {error}", 0, refused + 1
            counts.append(count)
            if line:
                echo(line)
    sent = [count for count in counts if count]
    echo(f"{sum(sent)} records sent to {store.safe_uri}, from {len(sent)} of the {len(counts)} journals in {storage}")
    if refused:
        raise UserError(f"{refused} of the {len(counts)} journals could not be sent, see above")


def flush_one(store: Store, folder: Path) -> tuple[str, int]:
    """Send one journal; return a message, empty if there is nothing to report, and the number of records sent.

    Raises:
        UserError: MLflow does not accept them.
    """
    file = next((file for file in READERS if (folder / file).is_file()), None)
    if file is None:
        named = " or ".join(READERS)
        return f"{folder}: skipped, because it has no {named}; the command that wrote it sends it", 0
    try:
        source = READERS[file](json.loads((folder / file).read_text(encoding="utf-8")), folder)
    except (ValueError, TypeError, AttributeError) as error:
        return (
            f"{folder / file}: skipped, because it is incomplete or other code wrote it ({first_line(error)}); the command "
            "that wrote it repairs it",
            0,
        )
    try:
        lock = acquire_lock(folder / LOCK)
    except UserError:
        return f"{source.experiment}, {source.name}: skipped, because it is still being written", 0
    try:
        if not holds_parent(store, source):
            return (
                f"{source.experiment}, {source.name}: skipped, because {store.safe_uri} does not hold its sweep, which was sent "
                "to another store or deleted; name that store (--tracking-uri), or run the sweep again with this one",
                0,
            )
        status, count = replay(store, source)
    finally:
        lock.release()
    return (f"{source.experiment}, {source.name}: {status}, {count} sent" if count else ""), count


def holds_parent(store: Store, source: RunSpec) -> bool:
    """Return whether a store holds the parent run of a journal's run; True if it has no parent.

    Raises:
        UserError: the store cannot be reached.
    """
    if PARENT not in source.tags:
        return True
    try:
        return store.client.get_run(source.tags[PARENT]).info.lifecycle_stage == "active"
    except StoreError as error:
        if error.code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise UserError(f"MLflow at {store.safe_uri} does not answer ({first_line(error)}): fix it first") from None
