"""What a machine says to itself goes past the proxy that it uses for the world."""

import os

PROXIES = ("http_proxy", "https_proxy", "all_proxy")
OWN = ("localhost", "127.0.0.1", "::1")


def spare_proxy(*hosts: str) -> None:
    """Tell this process, and those it starts, to ask no proxy for itself nor for these hosts.

    A proxy knows nothing of this machine's own servers: what is sent there by it is refused, or waits for minutes.
    """
    if not any(os.environ.get(name) or os.environ.get(name.upper()) for name in PROXIES):
        return
    known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    names = dict.fromkeys([*filter(None, map(str.strip, known.split(","))), *OWN, *hosts])
    # Many programs know the star, which stands for all, only where it stands alone.
    names = {"*": None} if "*" in names else names
    # Some programs read the one and some the other.
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(names)
