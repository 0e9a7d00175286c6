"""Tells a process from a later one that has its id."""

import os
from pathlib import Path

PROC = Path("/proc")


def process_space() -> str | None:
    """Return which processes this one sees: the machine's boot and the namespace of ids; None where no /proc says it."""
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink(PROC / 'self/ns/pid')}"
    except OSError:
        return None


def process_identity(pid: int) -> str | None:
    """Return what no other process has: its id, the space of ids, and when it started; None if it is gone or no /proc says it."""
    space = process_space()
    try:
        # The second field, the command in parentheses, may have spaces itself; the 22nd is the start in ticks after the boot.
        started = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None
    return f"{space} {pid} {started}" if space else None
