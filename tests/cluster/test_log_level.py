"""The level of messages reaches the processes that train."""

import os

import pytest
import ray

from tadp_ray.logs import LEVEL, show_log
from tadp_ray.sweep.cluster import ray_session

pytestmark = pytest.mark.cluster


def test_the_level_of_messages_reaches_processes_that_do_not_inherit_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster that was started elsewhere knows nothing of this command's environment."""

    def level() -> str:
        from tadp_ray.logs import log_level

        return log_level()

    monkeypatch.setenv(LEVEL, "info")
    show_log("info")
    try:
        del os.environ[LEVEL]
        with ray_session(None, dashboard=False):
            assert ray.get(ray.remote(num_cpus=0)(level).remote(), timeout=120) == "info"
    finally:
        show_log("warning")
