"""What every process of a sweep on Ray does first."""

import os

import ray


def know_own_cluster() -> None:
    """Name the cluster that this process belongs to, for whoever asks after it by the environment.

    Ray Train asks whether its controllers live, and asks without an address: where another cluster runs on the machine, or
    one has died and left its address behind, it would ask that one, and take workers away or never give them back.
    """
    os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
