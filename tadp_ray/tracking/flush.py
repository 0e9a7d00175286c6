"""Sends every journal of a storage to MLflow, for when the commands that wrote them ended before they could."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tadp_ray.errors import UserError
from tadp_ray.files import acquire_lock
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
"""What makes a journal's `RunSpec` of the record beside it, by the record's file."""


def flush(store: Store, storage: Path, tell: Callable[[str], None]) -> None:
    """Send what MLflow does not hold of the journals below `storage`: of cells and of pretrainings.

    Args:
        store: the store that the journals' commands told.
        storage: a folder like `runs`, or one above or below it.
        tell: hears a line for each journal that was sent or passed over, and one of all.

    Raises:
        UserError: there is no journal, a sweep is at work there, or MLflow does not take what is sent; of a single journal,
            after the others were sent.
    """
    folders = sorted(path.parent for path in storage.absolute().rglob(JOURNAL))
    if not folders:
        raise UserError(f"{storage}: no journal lies below this folder; name the one that compute.storage named")
    counts, refused = [], 0
    with ExitStack() as locks:
        # A sweep at work sends its cells itself: two senders of one journal would make two runs of it.
        for place in {folder.parents[1] for folder in folders if folder.parent.name == CELLS}:
            locks.callback(acquire_lock(place / SWEEP_LOCK).release)
        for folder in folders:
            try:
                line, count = flush_one(store, folder)
            except (UserError, OSError) as error:
                # A store that is away takes none of them.
                store.client.search_experiments(max_results=1)
                line, count, refused = f"{folder}: {error}", 0, refused + 1
            counts.append(count)
            if line:
                tell(line)
    sent = [count for count in counts if count]
    tell(f"{sum(sent)} records sent to {store.shown}, from {len(sent)} of the {len(counts)} journals in {storage}")
    if refused:
        raise UserError(f"{refused} of the {len(counts)} journals could not be sent, for what is said above")


def flush_one(store: Store, folder: Path) -> tuple[str, int]:
    """Send one journal; returns what there is to tell of it, if anything, and how many records were sent.

    Raises:
        UserError: MLflow does not take them.
    """
    file = next((file for file in READERS if (folder / file).is_file()), None)
    if file is None:
        named = " or ".join(READERS)
        return f"{folder}: passed over, because no {named} says what it is; the command that wrote it sends it", 0
    try:
        source = READERS[file](json.loads((folder / file).read_text(encoding="utf-8")), folder)
    except (ValueError, TypeError, AttributeError) as error:
        return (
            f"{folder / file}: passed over, because it is not whole or other code wrote it ({first_line(error)}); the command "
            "that wrote it mends it",
            0,
        )
    try:
        lock = acquire_lock(folder / LOCK)
    except UserError:
        return f"{source.experiment}, {source.name}: passed over, because it is still being written", 0
    try:
        if not holds_parent(store, source):
            return (
                f"{source.experiment}, {source.name}: passed over, because {store.shown} does not hold its sweep, which was "
                "told to another store or deleted; name that (--tracking-uri), or run the sweep again with this one",
                0,
            )
        status, count = replay(store, source)
    finally:
        lock.release()
    return (f"{source.experiment}, {source.name}: {status}, {count} sent" if count else ""), count


def holds_parent(store: Store, source: RunSpec) -> bool:
    """Whether a store holds the run above a journal's, if it has one.

    Raises:
        UserError: the store does not answer.
    """
    if PARENT not in source.tags:
        return True
    try:
        return store.client.get_run(source.tags[PARENT]).info.lifecycle_stage == "active"
    except StoreError as error:
        if error.code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise UserError(f"MLflow at {store.shown} does not answer ({first_line(error)}): mend it first") from None
