"""What is lost when something breaks? A sweep of nine small cells, undisturbed, and then under each fault at random times.

    python benchmarks/faults.py                            # every fault, some 25 minutes on two cores
    python benchmarks/faults.py --only worker --seed 1     # one of them, at other times

Prints a Markdown table as it goes. Steps repeated are a range, because a journal does not tell every step. Seconds lost are
those beyond the undisturbed sweep with as many workers and nodes. What each command said stays in --folder, with journals.
A full disk needs root (it mounts a small tmpfs); PostgreSQL must be installed with psycopg2; a fault that lacks what it
needs is named and skipped.
"""

import argparse
import copy
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from local_postgresql import PostgreSQL
from small_sweep import Sweep

from tadp_ray.tracking.dashboard import serve, stop
from tadp_ray.tracking.store import open_store
from tadp_ray.training.reporter import checkpoints

HEAD = """\
| fault (times it struck) | the same command finished, starts | table equal in every digit | every value in MLflow, once \
| steps repeated | seconds | lost | what the user saw |
|:--|:--|:--|:--|--:|--:|--:|:--|"""
STARTS = 6
"""How often the same command is started at most."""
SHIFTED = """\
import os, time
true = time.time
def shifted():
    with open(os.environ["CLOCK"]) as file:
        return true() + float(file.read())
time.time = shifted
"""


# The faults. Each strikes a sweep that trains, and may return what is done before the command is started again.

Mend = Callable[[], object] | None


def kill(sweep: Sweep, rng: random.Random, *names: str) -> None:
    """One process of the command, by chance."""
    if found := sweep.family(*names):
        rng.choice(found).kill()


def kill_trial(sweep: Sweep, rng: random.Random) -> Mend:
    """Without Ray Train a cell trains in Tune's trial; with it that process steers."""
    return kill(sweep, rng, "ray::ImplicitF")


def kill_train_worker(sweep: Sweep, rng: random.Random) -> Mend:
    return kill(sweep, rng, "ray::RayTrainWo")


def kill_steering(sweep: Sweep, rng: random.Random) -> Mend:
    return kill(sweep, rng, "ray::ImplicitF", "ray::TrainContr")


def kill_command(sweep: Sweep, rng: random.Random) -> Mend:
    sweep.process.kill()


def kill_node(sweep: Sweep, rng: random.Random) -> Mend:
    """Its raylet and all that runs there; another node joins some seconds later."""
    nodes = sweep.scene
    nodes.remove_node(rng.choice(sorted(nodes.worker_nodes, key=lambda node: node.unique_id)), allow_graceful=False)
    time.sleep(rng.uniform(3, 10))
    nodes.add_node(wait=False)


def kill_server(sweep: Sweep, rng: random.Random) -> Mend:
    """MLflow's or PostgreSQL's; it is back after 30 s."""
    sweep.scene.kill()
    time.sleep(30)
    sweep.scene.start()


def stand_still(sweep: Sweep, rng: random.Random) -> Mend:
    worker = rng.choice(sweep.family("ray::ImplicitF"))
    worker.suspend()
    time.sleep(60)
    with suppress(psutil.NoSuchProcess):
        worker.resume()


def fill_disk(sweep: Sweep, rng: random.Random) -> Mend:
    """Less room than a checkpoint needs, until the command has ended."""
    filler = sweep.folder / "runs/filler"
    left = rng.randrange(20 * 2**20)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(filler.parent).free - left)
    return filler.unlink


def tear_checkpoint(sweep: Sweep, rng: random.Random) -> Mend:
    """The command is killed, and the newest checkpoint of a cell loses its end."""

    def twice() -> list[Path]:
        return [kept[0] for cell in sweep.cells if len(kept := checkpoints(cell)) > 1]

    while sweep.process.is_running() and not twice():
        time.sleep(0.1)
    family = sweep.process.children(recursive=True)
    sweep.process.kill()

    def tear() -> None:
        psutil.wait_procs(family, timeout=60)
        for path in twice():
            os.truncate(path, rng.randrange(path.stat().st_size))

    return tear


def turn_clock(sweep: Sweep, rng: random.Random) -> Mend:
    """An hour ahead, or back behind where it was."""
    ahead = float(sweep.scene.read_text()) > 0
    draft = sweep.scene.with_suffix(".part")
    draft.write_text("-3600" if ahead else "3600")
    draft.replace(sweep.scene)


def command_twice(sweep: Sweep, rng: random.Random) -> Mend:
    """The second one is refused."""
    second = copy.copy(sweep)
    second.start()
    second.end()


def store_twice(sweep: Sweep, rng: random.Random) -> Mend:
    """The same sweep from another folder, at the same time, into the same MLflow store."""
    other = Sweep(sweep.folder / "other", {})
    other.uri = sweep.uri
    other.start()
    sweep.others.append(other)


def interrupt_twice(sweep: Sweep, rng: random.Random) -> Mend:
    """Ctrl-C, and again before the command has ended."""
    for wait in (rng.uniform(0.2, 3), 0):
        with suppress(ProcessLookupError):
            os.killpg(sweep.process.pid, signal.SIGINT)
        time.sleep(wait)


# Where they strike.


@contextmanager
def plainly(sweep: Sweep) -> Iterator[None]:
    yield


@contextmanager
def three_nodes(sweep: Sweep) -> Iterator[None]:
    """A Ray cluster of three nodes of one core."""
    from ray.cluster_utils import Cluster

    sweep.scene = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        for _ in range(2):
            sweep.scene.add_node()
        sweep.flags += ["--address", sweep.scene.address]
        yield
    finally:
        sweep.scene.shutdown()


class Server:
    """An MLflow server that can be killed and started again."""

    def __init__(self, database: str) -> None:
        self._database, self._port = database, free_port()
        self.start()

    def start(self) -> None:
        """Start it again."""
        self._served = serve(open_store(self._database), "127.0.0.1", self._port)
        self.address, self._process = self._served.__enter__()

    def kill(self) -> None:
        """End it as a crash would."""
        stop(self._process, signal.SIGKILL)

    def remove(self) -> None:
        """End it."""
        self._served.__exit__(None, None, None)


@contextmanager
def mlflow_server(sweep: Sweep) -> Iterator[None]:
    """An MLflow server over the sweep's database."""
    sweep.scene = Server(sweep.database)
    sweep.uri = sweep.scene.address
    try:
        yield
    finally:
        sweep.scene.remove()


@contextmanager
def postgresql_server(sweep: Sweep) -> Iterator[None]:
    """MLflow's records in PostgreSQL."""
    sweep.scene = PostgreSQL(free_port())
    sweep.database = sweep.uri = sweep.scene.uri
    try:
        open_store(sweep.uri)
        yield
    finally:
        sweep.scene.remove()


@contextmanager
def small_disk(sweep: Sweep) -> Iterator[None]:
    """A storage with room for what a sweep writes and little more."""
    storage = sweep.folder / "runs"
    storage.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1500m", "tmpfs", str(storage)], check=True)
    try:
        yield
    finally:
        kept = sweep.folder / "kept"
        shutil.copytree(storage, kept, ignore=shutil.ignore_patterns("*.safetensors", "ray"))
        subprocess.run(["umount", "--lazy", str(storage)], check=True)
        shutil.copytree(kept, storage, dirs_exist_ok=True)


@contextmanager
def own_clock(sweep: Sweep) -> Iterator[None]:
    """Python's clock in all processes of the command is ahead by what a file says."""
    (sweep.folder / "python").mkdir()
    (sweep.folder / "python/sitecustomize.py").write_text(SHIFTED)
    sweep.scene = sweep.folder / "clock"
    sweep.scene.write_text("0")
    path = f"{sweep.folder}/python:{sweep.environment.get('PYTHONPATH', '')}"
    sweep.environment |= {"CLOCK": str(sweep.scene), "PYTHONPATH": path}
    yield


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass(frozen=True)
class Fault:
    """Something that breaks, so many times in one sweep."""

    what: str
    strike: Callable[[Sweep, random.Random], Mend]
    times: int
    stage: Callable[[Sweep], AbstractContextManager[None]] = plainly
    workers: int = 0


FAULTS = {
    "worker": Fault("a training process is killed", kill_trial, 2),
    "train-worker": Fault("a Ray Train worker is killed", kill_train_worker, 2, workers=1),
    "steering": Fault("a process that steers Ray Train is killed", kill_steering, 2, workers=1),
    "command": Fault("the command, with Tune in it, is killed", kill_command, 3),
    "node": Fault("a node of three is killed, another joins later", kill_node, 2, three_nodes),
    "mlflow": Fault("the MLflow server is killed, and back after 30 s", kill_server, 1, mlflow_server),
    "postgresql": Fault("PostgreSQL is killed, and back after 30 s", kill_server, 1, postgresql_server),
    "standstill": Fault("a training process is stopped for 60 s", stand_still, 1),
    "disk": Fault("the disk is full when checkpoints are written", fill_disk, 1, small_disk),
    "torn": Fault("the command is killed, the newest checkpoints are torn", tear_checkpoint, 2),
    "clock": Fault("the clock is set an hour ahead, then two back", turn_clock, 2, own_clock),
    "command-twice": Fault("the same command beside it, on the same storage", command_twice, 2),
    "store-twice": Fault("the same sweep beside it, from another storage, into the same MLflow", store_twice, 1),
    "ctrl-c": Fault("Ctrl-C, and again before it ended", interrupt_twice, 2),
}


@dataclass
class Run:
    """A sweep that was driven to its end."""

    sweep: Sweep
    seconds: float
    starts: int
    strikes: int
    finished: bool
    values: dict[str, set[tuple[int, int]]]


def drive(fault: Fault, folder: Path, rng: random.Random) -> Run:
    """Start the same command until it has finished, and let the fault strike it meanwhile."""
    sweep = Sweep(folder, {"compute.num_train_workers": fault.workers})
    open_store(sweep.uri)
    with fault.stage(sweep):
        began, strikes, starts, code = time.monotonic(), 0, 0, None
        while code != 0 and starts < STARTS:
            sweep.start()
            starts += 1
            mends = []
            while strikes < fault.times and sweep.trains_on(sweep.saved(), rng.uniform(0, 4)):
                mends.append(fault.strike(sweep, rng))
                strikes += 1
            code = sweep.end()
            for mend in filter(None, mends):
                mend()
        for other in sweep.others:
            code = code or other.end()
        return Run(sweep, time.monotonic() - began, starts, strikes, code == 0, sweep.values())


def row(fault: Fault, hit: Run, calm: Run, beside: Run) -> str:
    """A line of the table.

    Args:
        fault: what struck.
        hit: the sweep that it struck.
        calm: the undisturbed sweep, for tables and counts.
        beside: the undisturbed sweep with as many workers and nodes, for times.
    """
    low, high = hit.sweep.repeated()
    tables = [sweep.table() for sweep in (hit.sweep, *hit.sweep.others)] if hit.finished else [{}]
    columns = [
        f"{fault.what} ({hit.strikes}x)" if hit.strikes else fault.what,
        f"{'yes' if hit.finished else 'NO'}, {hit.starts}",
        "yes" if all(table == calm.sweep.table() for table in tables) else "NO",
        "yes" if hit.values == calm.values else "NO",
        f"{low} to {high}" if high else "0",
        f"{hit.seconds:.0f}",
        f"{hit.seconds - beside.seconds:.0f}" if hit is not beside else "",
        hit.sweep.notices(),
    ]
    return f"| {' | '.join(columns)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=FAULTS, nargs="+", default=list(FAULTS), help="these faults alone")
    parser.add_argument("--seed", type=int, default=0, help="of the times at which faults strike")
    parser.add_argument("--folder", type=Path, help="where the sweeps are kept; a new temporary one if left out")
    asked = parser.parse_args()
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="faults-"))
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; logs, journals and tables are kept in {folder}\n")
    print(HEAD, flush=True)
    calm: dict[tuple[Any, int], Run] = {}
    strikes = 0
    for name in asked.only:
        fault = FAULTS[name]
        place = (three_nodes if fault.stage is three_nodes else plainly, fault.workers)
        for stage, workers in ((plainly, 0), place):
            if (stage, workers) not in calm:
                what = f"undisturbed, workers: {workers}" + ", three nodes" * (stage is three_nodes)
                nothing = Fault(what, fault.strike, 0, stage, workers)
                own = calm[stage, workers] = drive(
                    nothing, folder / what.replace(": ", "-").replace(", ", "-").replace(" ", "-"), random.Random()
                )
                print(row(nothing, own, calm[plainly, 0], own), flush=True)
        try:
            hit = drive(fault, folder / name, random.Random(f"{name} {asked.seed}"))
        except Exception as error:  # one that cannot be tried here keeps none of the others from being tried
            print(f"| {fault.what} | not tried: {error!r} |", flush=True)
            continue
        strikes += hit.strikes
        print(row(fault, hit, calm[plainly, 0], calm[place]), flush=True)
    print(f"\n{strikes} faults, seed {asked.seed}")


if __name__ == "__main__":
    main()
