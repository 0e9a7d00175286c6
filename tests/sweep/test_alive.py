"""Who gives no sign of life is ended, and a wait for a dead node is left. Ray itself is not started here."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from tadp_ray.config.cell import Cell
from tadp_ray.errors import UserError
from tadp_ray.sweep import alive, interruption
from tadp_ray.sweep.process import process_identity


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signs of life and looks follow each other at once."""
    monkeypatch.setattr(alive, "PERIOD", 0.01)


def test_a_wait_for_a_dead_node_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    before, died = signal.getsignal(signal.SIGUSR2), iter([False, False, True])
    monkeypatch.setattr(alive, "node_died", lambda: next(died, True))
    cleaned = []
    with pytest.raises(UserError, match="Ray on this machine died.*run the same command again to resume"):
        with alive.require_living_node():
            try:
                threading.Event().wait(60)
            except Exception:
                pytest.fail("somebody on the way took it for an error of a cell")
            finally:
                # MLflow is told in peace.
                time.sleep(0.1)
                cleaned.append(True)
    assert cleaned == [True] and signal.getsignal(signal.SIGUSR2) == before


def test_what_cleans_up_does_not_wait_for_a_dead_node_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alive, "node_died", lambda: True)
    monkeypatch.setattr(interruption, "CLEANUP_SECONDS", 0.05)
    with pytest.raises(UserError, match="Ray on this machine died"):
        with alive.require_living_node():
            try:
                threading.Event().wait(60)
            finally:
                threading.Event().wait(60)


def test_a_living_node_disturbs_nothing(monkeypatch: pytest.MonkeyPatch, wait_for) -> None:
    looks = []
    monkeypatch.setattr(alive, "node_died", lambda: looks.append(True))
    with alive.require_living_node():
        wait_for(lambda: len(looks) >= 3)


def test_what_interrupts_around_it_is_not_taken_for_a_dead_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alive, "node_died", lambda: False)
    with pytest.raises(UserError, match="^taken over$"):
        with interruption.interrupted_if(lambda: "taken over", 0.01), alive.require_living_node():
            threading.Event().wait(60)


def test_only_who_gives_no_sign_of_life_is_ended(
    make_cell: Callable[..., Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three cells one beats, one has stopped and one does not train."""
    ended: list[bytes] = []
    monkeypatch.setattr(alive, "TIMEOUT", 0.5)
    monkeypatch.setattr(alive, "kill_process", ended.append)
    beating, stopped, waiting = cells = [make_cell(seed=seed) for seed in range(3)]
    for cell, sign in ((beating, "{}"), (stopped, '{"pid": 1}')):
        cell.folder.mkdir(parents=True)
        (cell.folder / alive.ALIVE).write_text(sign)
    deadline = time.monotonic() + 900
    with alive.kill_hung_processes(cells):
        while not ended and time.monotonic() < deadline:
            (beating.folder / alive.ALIVE).write_text(f'{{"time": {time.time()}}}')
            time.sleep(0.005)
    assert ended == [b'{"pid": 1}'] and not waiting.folder.exists()


def test_a_number_that_another_process_has_got_is_left_alone() -> None:
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    own = process_identity(other.pid)
    assert alive.kill._function(other.pid, f"{own}0") is False and other.poll() is None
    assert alive.kill._function(other.pid, None) is False and other.poll() is None
    assert alive.kill._function(other.pid, own) is True
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    assert process_identity(other.pid) is None  # it has ended, though nobody has waited for it
    other.communicate()
    assert alive.kill._function(other.pid, own) is False


def test_signs_of_life_name_the_process_and_end_with_it(
    make_cell: Callable[..., Cell], monkeypatch: pytest.MonkeyPatch, wait_for
) -> None:
    monkeypatch.setattr(alive.ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "a1"))
    cell = make_cell()
    file = cell.folder / alive.ALIVE
    with alive.heartbeat(cell):
        first = json.loads(file.read_text())
        wait_for(lambda: json.loads(file.read_text())["time"] > first["time"])
        own = {"node": "a1", "pid": os.getpid(), "process": process_identity(os.getpid())}
        assert {**first, "time": 0} == {**own, "time": 0}
    assert not file.exists()
