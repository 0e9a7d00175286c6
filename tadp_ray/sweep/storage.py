"""The storage of a sweep: one sweep at a time. Imports no Ray, so that a taken folder is told at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tadp_ray.config.compute import ComputeConfig
from tadp_ray.errors import UserError
from tadp_ray.files import acquire_lock
from tadp_ray.layout import SWEEP_LOCK, SWEEP_PROCESS

if TYPE_CHECKING:
    from filelock import BaseFileLock


def check_storage(compute: ComputeConfig) -> None:
    """Check that no sweep holds the storage folder; nothing is created.

    Raises:
        UserError: another sweep holds it.
    """
    if (compute.folder / SWEEP_LOCK).exists():
        lock_storage(compute).release()


@contextmanager
def locked_storage(compute: ComputeConfig) -> Iterator[None]:
    """Keep other sweeps from the storage, a folder or a remote address, during the block.

    Raises:
        UserError: the storage cannot be written, or another sweep uses it.
    """
    lock = lock_storage(compute)
    try:
        if (address := compute.storage_address) is None:
            yield
            return
        # They take a second to import.
        from tadp_ray.sweep.address import Remote
        from tadp_ray.sweep.claim import claimed

        Remote(address).write_marker()
        with claimed(address, compute.folder):
            yield
    finally:
        lock.release()


def lock_storage(compute: ComputeConfig) -> "BaseFileLock":
    """Lock the storage folder on this machine, and delete the mark that a killed sweep has left.

    Raises:
        UserError: the storage cannot be written, or another sweep holds the lock.
    """
    try:
        compute.folder.mkdir(parents=True, exist_ok=True)
        # Commands that look whether a sweep is running hold the lock for a moment.
        lock = acquire_lock(compute.folder / SWEEP_LOCK, patience=1)
        try:
            (compute.folder / SWEEP_PROCESS).unlink(missing_ok=True)
        except BaseException:
            lock.release()
            raise
        return lock
    except OSError as error:
        raise UserError(
            f"compute.storage {compute.folder}: cannot be written ({error.strerror}); name another folder with "
            "--set compute.storage"
        ) from None
