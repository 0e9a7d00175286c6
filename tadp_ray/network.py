"""Keeps connections to this machine off the HTTP proxy."""

import os

PROXIES = ("http_proxy", "https_proxy", "all_proxy")
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


def bypass_proxy(*hosts: str) -> None:
    """Make this process and its children bypass the proxy for this machine and these hosts.

    A proxy cannot reach this machine's own servers: such requests are refused, or wait for minutes.
    """
    if not any(os.environ.get(name) or os.environ.get(name.upper()) for name in PROXIES):
        return
    known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    names = dict.fromkeys([*filter(None, map(str.strip, known.split(","))), *LOCAL_HOSTS, *hosts])
    # Many programs accept `*`, which means all hosts, only if it stands alone.
    names = {"*": None} if "*" in names else names
    # Some programs read one variable, some the other.
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(names)
