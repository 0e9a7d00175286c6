"""What Ray has written of processes that are gone: it deletes its folder with the next reboot, and names no cell there."""

from pathlib import Path

import ray

from tadp_ray.addresses import masked
from tadp_ray.training.journal import read_journal

MOST = 256 * 2**10
"""Bytes that are kept of each file, its last ones."""


def worker_log(cell: Path) -> str:
    """Standard output and error of the processes that trained a cell, newest last, as far as they ran on this machine.

    A warm process trains one cell after another, and tells of all of them.
    """
    pids = dict.fromkeys(record["pid"] for record in read_journal(cell) if "pid" in record)
    folder = logs()
    files = [file for pid in pids for file in sorted(folder.glob(f"worker-*-{pid}.*"))] if folder else []
    return masked("".join(f"==> {file.name}\n{tail(file)}\n" for file in files if file.stat().st_size))


def logs() -> Path | None:
    """The folder into which Ray writes what the processes of this machine say; None on a machine without a node."""
    node = ray._private.worker.global_worker.node
    return Path(node.get_logs_dir_path()) if node else None


def tail(file: Path) -> str:
    """The end of a text file."""
    with file.open("rb") as lines:
        lines.seek(max(0, file.stat().st_size - MOST))
        return lines.read().decode(errors="replace")
