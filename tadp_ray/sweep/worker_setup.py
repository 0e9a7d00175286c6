"""The set-up of every process of a sweep on Ray."""

import os

import ray

from tadp_ray.garbage import collect_rarely


def set_up_worker() -> None:
    """Set RAY_ADDRESS to the cluster of this process, and collect garbage rarely.

    Ray Train checks without an address whether its controllers are alive. If another cluster runs on the machine, or a dead
    one has left its address behind, it would check there and remove workers or never free them.
    """
    os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
    collect_rarely()
