"""The storage of a sweep: one sweep at a time. Imports no Ray, so that a taken folder is told at once."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tadp_ray.config.compute import ComputeConfig
from tadp_ray.errors import UserError
from tadp_ray.files import locked
from tadp_ray.layout import SWEEP_LOCK, SWEEP_PROCESS


def check_storage(compute: ComputeConfig) -> None:
    """Check that no sweep holds the storage folder; nothing is created.

    Raises:
        UserError: another sweep holds it.
    """
    if (compute.folder / SWEEP_LOCK).exists():
        with locked_folder(compute):
            pass


@contextmanager
def locked_storage(compute: ComputeConfig) -> Iterator[None]:
    """Keep other sweeps from the storage, a folder or a remote address, during the block.

    Raises:
        UserError: the storage cannot be written, or another sweep uses it.
    """
    with locked_folder(compute):
        if (address := compute.storage_address) is None:
            yield
            return
        # They take a second to import.
        from tadp_ray.sweep.address import Remote
        from tadp_ray.sweep.claim import claimed

        Remote(address).write_marker()
        with claimed(address, compute.folder):
            yield


@contextmanager
def locked_folder(compute: ComputeConfig) -> Iterator[None]:
    """Lock the storage folder on this machine during the block, and delete the mark that a killed sweep has left.

    Raises:
        UserError: the storage cannot be written, or another sweep holds the lock.
    """
    with ExitStack() as held:
        try:
            compute.folder.mkdir(parents=True, exist_ok=True)
            # Commands that look whether a sweep is running hold the lock for a moment.
            held.enter_context(locked(compute.folder / SWEEP_LOCK, patience=1))
            (compute.folder / SWEEP_PROCESS).unlink(missing_ok=True)
        except OSError as error:
            raise UserError(
                f"compute.storage {compute.folder}: cannot be written ({error.strerror}); name another folder with "
                "--set compute.storage"
            ) from None
        yield
