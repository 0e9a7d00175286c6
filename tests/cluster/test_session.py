"""What the processes of a Ray session are told, and what becomes of their resources."""

import json
import os
from collections.abc import Iterator

import pytest
import ray
from ray._private.ray_constants import DASHBOARD_ADDRESS, KV_NAMESPACE_DASHBOARD
from ray.experimental.internal_kv import _internal_kv_get
from ray.util.placement_group import placement_group, placement_group_table

from tadp_ray.logs import LEVEL, show_log
from tadp_ray.sweep import alive
from tadp_ray.sweep.cluster import ray_session

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def session() -> Iterator[None]:
    """Ray with two cores on this machine, and a level of messages that its processes do not inherit.

    Those of a cluster that was started elsewhere know nothing of this command's environment.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_OVERRIDE_RESOURCES", json.dumps({"CPU": 2}))
        patch.setenv(LEVEL, "info")
        show_log("info")
        try:
            del os.environ[LEVEL]
            with ray_session(None):
                yield
        finally:
            show_log("warning")


def test_the_level_of_messages_reaches_processes_that_do_not_inherit_it(session) -> None:
    def level() -> str:
        from tadp_ray.logs import log_level

        return log_level()

    assert ray.get(ray.remote(num_cpus=0)(level).remote(), timeout=120) == "info"


def test_nobody_asks_the_dashboard_of_another_cluster(session) -> None:
    """Its default address would be named even though nobody of this cluster listens there."""
    assert _internal_kv_get(DASHBOARD_ADDRESS, namespace=KV_NAMESPACE_DASHBOARD) == b"127.0.0.1:0"


def test_what_a_dead_controller_reserved_is_free_for_the_next_one(session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two cores, this command has reserved one and an actor the other; the next actor waits for it."""

    class Controller:
        def reserve(self) -> None:
            ray.get(placement_group([{"CPU": 1}]).ready())

    monkeypatch.setattr(alive, "PERIOD", 0.1)
    ours, (dead, after) = placement_group([{"CPU": 1}]), (ray.remote(num_cpus=0)(Controller).remote() for _ in range(2))
    ray.get([ours.ready(), dead.reserve.remote()], timeout=120)
    with alive.free_orphaned_workers():
        waiting = after.reserve.remote()
        assert not ray.wait([waiting], timeout=1)[0]
        ray.kill(dead)
        ray.get(waiting, timeout=120)
    assert placement_group_table(ours)["state"] == "CREATED" and alive.orphaned_groups() == []
