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
    """Return what no other process has: its id, the space of ids, and when it started; None if it ended or no /proc says it."""
    space = process_space()
    try:
        # The second field, the command in parentheses, may have spaces itself. The third is the state: Z of a process that has
        # ended, and that nobody has waited for. The 22nd is the start in ticks after the boot.
        state, *_, started = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()[:20]
    except (OSError, ValueError):
        return None
    return f"{space} {pid} {started}" if space and state != "Z" else None
