"""Two sweeps at one address of an object store, a real S3 server's, are kept apart."""

import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from threading import Barrier

import pytest

from tadp_ray.config.compute import ComputeConfig
from tadp_ray.errors import UserError
from tadp_ray.sweep import claim
from tadp_ray.sweep.address import Remote
from tadp_ray.sweep.claim import claimed
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


def test_of_sweeps_that_start_at_once_at_most_one_goes_on(address: str, machine: Callable[[str], Path]) -> None:
    """Were the others looked for before the own claim is written, all would go on."""
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


def test_a_killed_sweep_is_taken_over_in_its_folder_and_told_elsewhere(
    address: str, machine: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever holds the folder's lock knows that its last sweep has ended; another machine knows how long it is silent."""
    with claimed(address, machine("first")):
        (name,) = claims(address)
        left = json.dumps({"host": "gone", "process": 7, "since": time.time()}).encode()
    Remote(address).write(BytesIO(left), f"claims/{name}")
    with pytest.raises(UserError, match="process 7 on gone since .*; wait for it or stop it"):
        with claimed(address, machine("second")):
            raise AssertionError
    monkeypatch.setattr(claim, "TIMEOUT", 0.5)
    time.sleep(1.1)  # the store's times are in whole seconds
    told = f"no sign of life for 0 minutes; if it has ended, delete claims/{name} there, then run this again"
    with pytest.raises(UserError, match=told), claimed(address, machine("second")):
        raise AssertionError
    assert claims(address) == [name]
    with claimed(address, machine("first")):
        assert json.loads(Remote(address).read(f"claims/{name}"))["process"] == os.getpid()
    assert claims(address) == []


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


def test_an_address_that_cannot_be_written_is_told(free_port: int, machine: Callable[[str], Path]) -> None:
    with pytest.raises(UserError, match="cannot be read or written .*check its name"):
        with claimed(f"s3://bucket/x?endpoint_override=127.0.0.1:{free_port}&scheme=http", machine("first")):
            raise AssertionError
