"""Saves Ray's logs of a cell's processes. Ray keeps them only until a reboot, and does not name the cell in them."""

from datetime import datetime
from pathlib import Path

import ray
from ray._common.utils import get_default_ray_temp_dir

from tadp_ray.addresses import masked
from tadp_ray.training.journal import read_journal

MAX_BYTES = 256 * 2**10
"""Of each file's end that are kept."""


def worker_log(cell: Path, folder: Path | None = None) -> str:
    """Return the standard output and error of a cell's processes on this machine, newest last.

    A reused process trains several cells, so its log holds all of them.

    Args:
        cell: folder of the cell.
        folder: of Ray's logs; None: of the Ray node that this process is on.
    """
    folder = folder or log_folder()
    if folder is None:
        return ""
    began = session_start(folder)
    # After a reboot, or in a container, another process may have the id of an earlier one.
    pids = dict.fromkeys(
        record["pid"] for record in read_journal(cell) if "pid" in record and record.get("time", 0) >= began
    )
    files = [file for pid in pids for file in sorted(folder.glob(f"worker-*-{pid}.*"))]
    return masked("".join(f"==> {file.name}\n{tail(file)}\n" for file in files if file.stat().st_size))


def log_folder() -> Path | None:
    """Return the folder of Ray's logs on this machine; None without a Ray node."""
    node = ray._private.worker.global_worker.node
    return Path(node.get_logs_dir_path()) if node else None


def newest_log_folder() -> Path:
    """Return the folder of the logs of the Ray that was started last on this machine, which may not exist."""
    return Path(get_default_ray_temp_dir()) / "session_latest/logs"


def session_start(folder: Path) -> float:
    """Return when the Ray began whose logs are in a folder, in seconds since 1970; 0 if its name does not tell."""
    name = folder.resolve().parent.name.removeprefix("session_")
    try:
        return datetime.strptime(name[: len("2026-01-31_12-00-00")], "%Y-%m-%d_%H-%M-%S").timestamp()
    except ValueError:
        return 0.0


def tail(file: Path) -> str:
    """Return the end of a text file."""
    with file.open("rb") as lines:
        lines.seek(max(0, file.stat().st_size - MAX_BYTES))
        return lines.read().decode(errors="replace")
