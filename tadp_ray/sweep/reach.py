"""Whether a Ray cluster answers. Imports no Ray, so that a dead address is told at once."""

import os
import socket

from tadp_ray.errors import UserError

CONNECT_TIMEOUT = 2.5
"""Seconds to wait for a cluster to accept a connection; Ray itself would try for minutes."""


def cluster_address(address: str | None) -> str | None:
    """Return the address given, else RAY_ADDRESS; None: Ray is started on this machine."""
    return address or os.environ.get("RAY_ADDRESS")


def ping(address: str) -> None:
    """Check that a machine accepts connections.

    Raises:
        UserError: it does not.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdecimal():  # not a word such as `auto`
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT).close()
        except OSError as error:
            raise no_cluster_error(address, error) from None


def no_cluster_error(address: str | None, error: OSError) -> UserError:
    """Return the error of an address without a cluster."""
    return UserError(f"--address {address}: no Ray cluster answers there ({error}); start one, or leave it out")
