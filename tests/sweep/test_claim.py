"""Two sweeps at one address of an object store, a real S3 server's, are kept apart."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path
from threading import Barrier

import pytest

from tadp_ray.config.compute import ComputeConfig
from tadp_ray.errors import UserError
from tadp_ray.sweep import claim
from tadp_ray.sweep.address import Remote
from tadp_ray.sweep.claim import claimed
from tadp_ray.sweep.process import process_space
from tadp_ray.sweep.storage import locked_storage


@pytest.fixture
def address(object_store: str, tmp_path: Path) -> str:
    """A folder of the object store's that is this test's own."""
    return object_store.replace("bucket?", f"bucket/{tmp_path.name}?")


@pytest.fixture
def machine(tmp_path: Path) -> Callable[[str], Path]:
    """Returns a machine's own copy of the storage."""

    def make(name: str) -> Path:
        (tmp_path / name).mkdir(exist_ok=True)
        return tmp_path / name

    return make


def claims(address: str) -> list[str]:
    """The names of the claims at an address."""
    return Remote(address).names("claims")


def test_a_second_sweep_is_refused_until_the_first_has_ended(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the command does it: two working folders, in each of which ./runs is the copy."""
    compute = ComputeConfig(storage=address)
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "first")
    with locked_storage(compute):
        assert len(claims(address)) == 1
        monkeypatch.chdir(tmp_path / "second")
        with pytest.raises(UserError) as told, locked_storage(compute):
            raise AssertionError
        assert f"process {os.getpid()} on {os.uname().nodename} since 2" in str(told.value)
        assert str(told.value).endswith("; wait for it or stop it, then run this again")
        assert len(claims(address)) == 1
    assert claims(address) == []
    with locked_storage(compute):
        assert len(claims(address)) == 1


def test_of_sweeps_that_start_at_once_at_most_one_goes_on(
    address: str, machine: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were the others looked for before the own claim is written, all would go on."""
    monkeypatch.setattr(claim, "interrupted_if", lambda *_: nullcontext())  # threads are not interrupted
    number = 4
    begin, end = Barrier(number), Barrier(number)

    def start(folder: Path) -> bool:
        begin.wait(timeout=300)
        try:
            with claimed(address, folder):
                end.wait(timeout=300)
                return True
        except UserError:
            end.wait(timeout=300)
            return False

    for turn in range(2):
        folders = [machine(f"{turn}-{index}") for index in range(number)]
        with ThreadPoolExecutor(number) as threads:
            assert sum(threads.map(start, folders)) <= 1
        assert claims(address) == []


def leave(address: str, folder: Path, **said: object) -> str:
    """A claim of a sweep of this folder that was killed on another machine just now, with some facts replaced; its name."""
    facts = {"host": "gone", "process": 7, "identity": "another boot 1", "since": time.time()} | said
    name = f"{claim.owner(folder)}.killed"
    Remote(address).make_folder("claims")
    Remote(address).write(BytesIO(json.dumps(facts).encode()), f"claims/{name}")
    return name


@pytest.mark.slow
def test_a_killed_sweep_is_taken_over_in_its_folder_and_told_elsewhere(
    address: str, machine: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its folder on another machine, only when it has been silent: it may be a copy's, whose sweep runs."""
    name = leave(address, machine("first"))
    with pytest.raises(UserError, match="process 7 on gone since .*; wait for it or stop it, then run this again$"):
        with claimed(address, machine("second")):
            raise AssertionError
    with pytest.raises(UserError, match="process 7 on gone since .* run this again, in 2 minutes if it was killed$"):
        with claimed(address, machine("first")):
            raise AssertionError
    monkeypatch.setattr(claim, "TIMEOUT", 0.5)
    time.sleep(1.1)  # the store's times are in whole seconds
    told = f"no sign of life for 0 minutes; if it has ended, delete claims/{name} there, then run this again"
    with pytest.raises(UserError, match=told), claimed(address, machine("second")):
        raise AssertionError
    assert claims(address) == [name]
    with claimed(address, machine("first")):
        (own,) = claims(address)
        assert own != name and json.loads(Remote(address).read(f"claims/{own}"))["process"] == os.getpid()
    assert claims(address) == []


def test_a_sweep_at_a_storage_without_times_is_taken_for_a_living_one(
    address: str, machine: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by one of a copy of its folder on another machine."""
    monkeypatch.setattr(Remote, "mtimes", lambda self, names: [None] * len(names))
    name = leave(address, machine("first"))
    with pytest.raises(UserError, match="process 7 on gone since .*; wait for it or stop it, then run this again$"):
        with claimed(address, machine("first")):
            raise AssertionError
    assert claims(address) == [name]


def test_a_killed_sweep_of_this_machine_is_taken_over_at_once(address: str, machine: Callable[[str], Path]) -> None:
    """Its id is another process's by now, or nobody's."""
    for number in (os.getpid(), 2**22 + 1):
        name = leave(address, machine("first"), process=number, identity=f"{process_space()} 1")
        with claimed(address, machine("first")):
            (own,) = claims(address)
            assert json.loads(Remote(address).read(f"claims/{own}"))["replaces"] == [f"claims/{name}"]
        assert claims(address) == []


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Sweeps look again and again whether they are taken over, but not before this is set."""
    look, begun = claim.successor, threading.Event()
    monkeypatch.setattr(claim, "PERIOD", 0.05)
    monkeypatch.setattr(claim, "successor", lambda *arguments: look(*arguments) if begun.wait(60) else None)
    return begun


@pytest.mark.parametrize(("deleted", "replaces"), [(True, True), (True, False), (False, True)])
def test_a_sweep_that_was_taken_over_ends(
    deleted: bool, replaces: bool, address: str, machine: Callable[[str], Path], looks: threading.Event
) -> None:
    """A claim that was deleted while it was written again is there; the successor's names it."""
    told = "compute.storage s3.*: another sweep took over, process 7 on gone since 2.* the same command resumes$"
    name = ""
    with pytest.raises(UserError, match=told), claimed(address, machine("first")):
        (own,) = claims(address)
        name = leave(address, machine("first"), replaces=[f"claims/{own}"] if replaces else [])
        if deleted:
            Remote(address).delete(f"claims/{own}")
        looks.set()
        threading.Event().wait(60)
    assert claims(address) == [name]


def test_a_sweep_whose_successor_has_ended_ends(
    address: str, machine: Callable[[str], Path], looks: threading.Event
) -> None:
    told = r"another sweep took over, and has ended since: .* cut off\), or claims/\w+\.\w+ was deleted; this one ends"
    with pytest.raises(UserError, match=told), claimed(address, machine("first")):
        Remote(address).delete(f"claims/{claims(address)[0]}")
        looks.set()
        threading.Event().wait(60)
    assert claims(address) == []


SUSPENDED = """
import sys, threading
from pathlib import Path
from tadp_ray.errors import UserError
from tadp_ray.sweep import claim
claim.PERIOD = 0.05
try:
    with claim.claimed(sys.argv[1], Path(sys.argv[2])):
        print("claimed", flush=True)
        threading.Event().wait(300)
except UserError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_suspended_sweep_is_taken_over_from_another_machine_only_and_then_ends(
    address: str, machine: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [sys.executable, "-c", SUSPENDED, address, str(machine("first"))]
    first = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout and first.stdout.readline() == "claimed\n"
        first.send_signal(signal.SIGSTOP)
        shutil.copytree(machine("first"), machine("second"), dirs_exist_ok=True)
        monkeypatch.setattr(claim, "TIMEOUT", 0.5)
        time.sleep(1.1)  # the store's times are in whole seconds
        told = f"process {first.pid} on .* but it has not ended; end it with `kill -KILL {first.pid}`, then run this again$"
        for name in ("second", "third"):
            with pytest.raises(UserError, match=told), claimed(address, machine(name)):
                raise AssertionError
        monkeypatch.setattr(claim, "process_space", lambda: "another boot")
        with claimed(address, machine("second")):
            first.send_signal(signal.SIGCONT)
            said, _ = first.communicate(timeout=300)
            assert f"another sweep took over, process {os.getpid()} on {os.uname().nodename} since 2" in said
            assert len(claims(address)) == 1
    finally:
        first.kill()
        first.wait()


def test_a_copy_of_a_folder_is_kept_apart_from_it(address: str, machine: Callable[[str], Path]) -> None:
    """A copied `runs` has the first one's sweep.owner; the second sweep must not delete the first one's claim either."""
    with claimed(address, machine("first")):
        shutil.copytree(machine("first"), machine("second"), dirs_exist_ok=True)
        before = claims(address)
        with pytest.raises(UserError, match=f"another sweep uses it, process {os.getpid()} on "):
            with claimed(address, machine("second")):
                raise AssertionError
        assert claims(address) == before and len(before) == 1


def test_a_claim_that_is_being_written_is_read_again_and_counts(
    address: str, machine: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some storage shows an object before all of it is there."""
    monkeypatch.setattr(claim, "PAUSE", 0.01)
    name = leave(address, machine("first"))
    whole, halves = Remote.read, iter([b" ", b'{"host": "go'])
    monkeypatch.setattr(Remote, "read", lambda self, other: next(halves, None) or whole(self, other))
    with pytest.raises(UserError, match="process 7 on gone since"), claimed(address, machine("second")):
        raise AssertionError
    monkeypatch.setattr(Remote, "read", lambda self, other: b'{"host": "go')
    with pytest.raises(UserError, match=f"whose claims/{name} is not readable; wait for it or stop it, then run"):
        with claimed(address, machine("second")):
            raise AssertionError
    assert claims(address) == [name]


def test_a_running_sweep_gives_signs_of_life(
    address: str, machine: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim, "PERIOD", 0.05)
    with claimed(address, machine("first")):
        (name,) = claims(address)
        began = Remote(address).mtimes([f"claims/{name}"])
        deadline = time.monotonic() + 300
        while Remote(address).mtimes([f"claims/{name}"]) == began:
            assert time.monotonic() < deadline
            time.sleep(0.1)


@pytest.mark.slow
def test_an_address_that_does_not_answer_is_told(free_port: int, machine: Callable[[str], Path]) -> None:
    told = "cannot be read or written .*Could not connect .*check its name, your permissions"
    with pytest.raises(UserError, match=told):
        with claimed(f"s3://bucket/x?endpoint_override=127.0.0.1:{free_port}&scheme=http", machine("first")):
            raise AssertionError
