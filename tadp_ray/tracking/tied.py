"""Runs a command that ends with its parent process: `python tied.py COMMAND ...`.

The parent holds the other end of this process's standard input. When it dies in any way, the pipe closes, and the command
and all its children are ended. This file is a program and imports nothing of the package.
"""

import os
import signal
import subprocess
import sys
import threading

PATIENCE = 10.0
"""Seconds that the command may take to end after SIGTERM."""


def main() -> None:
    """Run the command, and exit with its exit code."""
    # Signals reach the whole group; this process waits for the command, which frees its port only then.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    orphaned = threading.Event()
    threading.Thread(target=end_with_parent, args=(process, orphaned), daemon=True).start()
    code = process.wait()
    if orphaned.is_set():
        # Children of the command may have ignored the signal.
        os.killpg(0, signal.SIGKILL)
    os._exit(code if code >= 0 else 128 - code)


def end_with_parent(process: "subprocess.Popen[bytes]", orphaned: threading.Event) -> None:
    """Wait until standard input closes; then end this process group."""
    while os.read(0, 1024):
        pass
    orphaned.set()
    os.killpg(0, signal.SIGTERM)
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
