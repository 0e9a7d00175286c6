"""A PostgreSQL server of one's own in a folder of its own, to be killed and started again: for fault table and tests."""

import glob
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

UNSAFE = ("fsync=off", "full_page_writes=off")
"""Spares the disk: a killed process loses nothing by it, only a machine that goes down would."""


class PostgreSQL:
    """A server on a port of 127.0.0.1, with one empty database; everybody on this machine may use it.

    Raises:
        FileNotFoundError: PostgreSQL is not installed.
    """

    def __init__(self, port: int) -> None:
        self.uri = f"postgresql+psycopg2://tadp@127.0.0.1:{port}/postgres"
        initdb, self._postgres = program("initdb"), program("postgres")
        self._folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
        # PostgreSQL does not run as root.
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user:
            os.chown(self._folder, pwd.getpwnam(self._user).pw_uid, -1)
        self._options = [f"-cport={port}", "-clisten_addresses=127.0.0.1", "-cunix_socket_directories="]
        self._options += [f"-c{setting}" for setting in UNSAFE]
        self._data = str(self._folder / "data")
        self._run([initdb, "--username=tadp", "--auth=trust", "--no-sync", "--encoding=UTF8", "--pgdata", self._data])
        self.start()

    def start(self) -> None:
        """Start the server, and return when it answers."""
        deadline = time.monotonic() + 60
        while True:
            with (self._folder / "log").open("ab") as log:
                command = [self._postgres, "-D", self._data, *self._options]
                self._server = subprocess.Popen(command, cwd="/", user=self._user, stdout=log, stderr=log)
            while self._server.poll() is None:
                if (
                    subprocess.run(
                        [program("pg_isready"), "--dbname", self.uri.replace("+psycopg2", "")], stdout=-3
                    ).returncode
                    == 0
                ):
                    return
                time.sleep(0.1)
            # The processes of a killed server need a moment to see that they are alone.
            if time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL does not start: {(self._folder / 'log').read_text()[-2000:]}")
            time.sleep(0.5)

    def kill(self) -> None:
        """End the server as a crash would."""
        self._server.kill()
        self._server.wait()

    def remove(self) -> None:
        """End the server, and remove its folder."""
        self._server.send_signal(signal.SIGQUIT)
        self._server.wait()
        shutil.rmtree(self._folder)

    def _run(self, command: list[str]) -> None:
        subprocess.run(command, cwd="/", user=self._user, check=True, capture_output=True)


def program(name: str) -> str:
    """Path of one of PostgreSQL's programs, which Debian keeps out of PATH.

    Raises:
        FileNotFoundError: it is not installed.
    """
    found = shutil.which(name) or next(iter(sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"))[::-1]), None)
    if found is None:
        raise FileNotFoundError(f"PostgreSQL's {name} is not installed (Debian: apt install postgresql)")
    return found
