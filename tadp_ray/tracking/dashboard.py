"""Serves MLflow's web page for a store."""

import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from tadp_ray.errors import UserError
from tadp_ray.network import LOCAL_HOSTS
from tadp_ray.tracking import tied
from tadp_ray.tracking.client import named_driver
from tadp_ray.tracking.sqlite import artifacts_beside
from tadp_ray.tracking.store import Store
from tadp_ray.tracking.view import newest_page

log = logging.getLogger(__name__)

STARTUP_SECONDS = 120


def dashboard(store: Store, host: str = "127.0.0.1", port: int = 5000, echo: Callable[[str], None] = print) -> None:
    """Serve the store's page until interrupted; for a store that is a server, print its address.

    The address leads to the cells of the newest sweep.

    Raises:
        UserError: the port is in use, or the server ends by itself.
    """
    path, name = newest_page(store)
    if is_server(store):
        echo(f"the MLflow server is already running: open {store.safe_uri.rstrip('/')}{path} ({name})")
        return
    if host not in LOCAL_HOSTS:
        log.warning(
            f"whoever reaches {host}:{port} can change and delete these runs; to look from another machine, leave --host out "
            f"and run there: ssh -L {port}:127.0.0.1:{port} {socket.gethostname()}"
        )
    with serve(store, host, port) as (address, process):
        echo(f"open {address}{path} ({name}; stop with Ctrl-C)")
        try:
            code = process.wait()
        except KeyboardInterrupt:
            return
    raise UserError(f"the MLflow server ended with exit code {code}; see its output above")


def is_server(store: Store) -> bool:
    """Return whether a store is a server, which has its page already."""
    return store.uri.startswith("http")


@contextmanager
def serve(store: Store, host: str, port: int) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run an MLflow server on a store's database during the block; yield (address, process) once it answers.

    The server also ends when this process dies in any way.

    Raises:
        UserError: the port is in use, or the server does not start.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(f"{host}:{port} cannot be used ({error.strerror}); choose another --port") from None
    address = f"http://{host}:{port}"
    # The URI may hold a password, and other users of the machine can read the command line but not the environment. A
    # personal server needs neither job runners nor many workers.
    environment = os.environ | {
        "MLFLOW_BACKEND_STORE_URI": named_driver(store.uri),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "PYTHONWARNINGS": "ignore",
    }
    command = [sys.executable, "-P", tied.__file__]
    command += [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    command += ["--uvicorn-opts", "--log-level warning"]
    if store.database:
        command += ["--default-artifact-root", artifacts_beside(store.database).as_uri()]
    # Standard output is for the command's results, so the server's output goes to standard error.
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=2, start_new_session=True)
    try:
        wait_for_server(address, process)
        yield address, process
    finally:
        stop(process, signal.SIGTERM)
        if process.stdin:
            process.stdin.close()


def stop(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    """Stop a server and its workers; kill them after ten seconds."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, how)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        stop(process, signal.SIGKILL)


def wait_for_server(address: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until the server answers.

    Raises:
        UserError: it ended, or did not answer within `STARTUP_SECONDS`.
    """
    deadline = time.monotonic() + STARTUP_SECONDS
    # Our own server is never behind a proxy.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise UserError(f"the MLflow server ended with exit code {process.returncode}; see its output above")
        try:
            direct.open(f"{address}/health", timeout=2).close()
            return
        except OSError:
            time.sleep(0.2)
    raise UserError(f"the MLflow server did not answer at {address} within {STARTUP_SECONDS} seconds")
