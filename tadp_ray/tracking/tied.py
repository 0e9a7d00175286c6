"""Runs a command for as long as the process that asked for it lives: `python tied.py COMMAND ...`, asked through a pipe.

The asking process holds the other end of this one's standard input. However it dies, the pipe ends; then the command ends
with everything that it started. Stands alone, since it is a program of its own.
"""

import os
import signal
import subprocess
import sys
import threading

PATIENCE = 10.0
"""Seconds that the command may take to end well."""


def main() -> None:
    """Run the command, and end with its exit code."""
    # One signal goes to the whole group; this process waits for the command, whose port is free only then.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    alone = threading.Event()
    threading.Thread(target=end_with_asker, args=(process, alone), daemon=True).start()
    code = process.wait()
    if alone.is_set():
        # Of what the command started, nobody is left to ask whether it heeded the signal.
        os.killpg(0, signal.SIGKILL)
    os._exit(code if code >= 0 else 128 - code)


def end_with_asker(process: "subprocess.Popen[bytes]", alone: threading.Event) -> None:
    """Wait until nobody holds the other end of standard input; then end this process group."""
    while os.read(0, 1024):
        pass
    alone.set()
    os.killpg(0, signal.SIGTERM)
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
