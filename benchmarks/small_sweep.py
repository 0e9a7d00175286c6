"""A sweep of nine small cells as a command in a folder of its own, and what became of it."""

import os
import re
import signal
import sys
import time
from contextlib import suppress
from csv import DictReader
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy

from tadp_ray.training.journal import read_journal
from tadp_ray.training.loop import LOG_EVERY

ROOT = Path(__file__).resolve().parents[1]
STEPS = 60
SMALL = {
    "data.size": 32,
    "data.train": 40,
    "data.val": 20,
    "schedule.iterations": STEPS,
    "schedule.batch_size": 4,
    "evaluation.interval": STEPS,
    "compute.checkpoint_every": 5,
}
PATIENCE = 1200
"""Seconds after which a command is held to hang."""
NOTICE = re.compile(r"error:|stopped;|died;|MLflow at|failed|Traceback|\w+Error")


class Sweep:
    """The sweep command in a folder of its own."""

    def __init__(self, folder: Path, changes: dict[str, object]) -> None:
        self.folder, self.changes, self.flags, self.environment = folder, {**SMALL, **changes}, [], dict(os.environ)
        self.database = self.uri = f"sqlite:///{folder}/mlflow.db"
        """MLflow's: where its records lie, and how the command is told of them."""
        self.scene: Any = None
        """What else was put up: nodes, a server, a clock."""
        self.others: list[Sweep] = []
        """Sweeps that ran beside this one and must have the same table."""
        self.process: psutil.Popen | None = None
        self.log = folder / "said.log"
        folder.mkdir(parents=True)

    def start(self) -> None:
        """Start the command."""
        changes = [word for key, value in self.changes.items() for word in ("--set", f"{key}={value}")]
        command = [sys.executable, "-m", "tadp_ray.sweep", str(ROOT / "experiments/prec_recall.yaml"), *changes]
        command += ["--tracking-uri", self.uri, *self.flags]
        with self.log.open("ab") as log:
            # A session of its own, as a terminal gives it: Ctrl-C reaches all of its processes.
            self.process = psutil.Popen(
                command,
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=heed_interrupts,
            )

    def end(self) -> int:
        """Wait for the command's exit code; one that hangs is killed."""
        try:
            code = self.process.wait(timeout=PATIENCE)
        except psutil.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        if code < 0:
            with self.log.open("a") as log:
                log.write(f"{signal.strsignal(-code)}\n")
        return code

    @property
    def cells(self) -> list[Path]:
        """Folders of the cells so far."""
        return sorted(self.folder.glob("runs/cells/*"))

    def saved(self) -> int:
        """How often a checkpoint was written or read so far."""
        return sum("checkpoint" in record for cell in self.cells for record in read_journal(cell))

    def trains_on(self, before: int, wait: float) -> bool:
        """Return `wait` seconds after a checkpoint was written or read; False if the command ends before that."""
        while self.process.is_running() and self.process.status() != psutil.STATUS_ZOMBIE:
            if self.saved() > before:
                with suppress(psutil.TimeoutExpired):
                    self.process.wait(wait)
                    return False
                return True
            time.sleep(0.1)
        return False

    def family(self, *names: str) -> list[psutil.Process]:
        """The command's processes whose names begin so."""
        return [one for one in self.process.children(recursive=True) if one.name().startswith(names)]

    def table(self) -> dict[tuple[str, str], str]:
        """The finished table's numbers as they are written, every digit."""
        with (self.folder / "runs/prec_recall/pocket/table.csv").open(newline="", encoding="utf-8-sig") as file:
            return {(row["row"], row["column"]): row["mean"] for row in DictReader(file)}

    def values(self) -> dict[str, set[tuple[int, int]]]:
        """By cell: how many values its runs in MLflow hold, and how many different ones."""
        query = (
            "select t.value, count(*), count(distinct m.key || ' ' || m.step) from metrics m join tags t on"
            " t.run_uuid = m.run_uuid where t.key = 'tadp.fingerprint' group by m.run_uuid, t.value"
        )
        held: dict[str, set[tuple[int, int]]] = {}
        with sqlalchemy.create_engine(self.database).connect() as database:
            for cell, count, different in database.execute(sqlalchemy.text(query)):
                held.setdefault(cell, set()).add((count, different))
        return held

    def repeated(self) -> tuple[int, int]:
        """How many steps were trained again, at least and at most."""
        bounds = [repeated(cell) for sweep in (self, *self.others) for cell in sweep.cells]
        return sum(low for low, _ in bounds), sum(high for _, high in bounds)

    def notices(self) -> str:
        """What the user was told beside progress and answer."""
        lines = [line.strip() for line in self.log.read_text().splitlines()]
        told = [line for line in lines if NOTICE.search(line) or line in ("Killed", "Terminated")]
        return "<br>".join(dict.fromkeys(re.sub(rf"{self.folder}/?", "", line)[:200] for line in told)) or "nothing"


def heed_interrupts() -> None:
    """Have Ctrl-C end this process, as it does in a terminal; what a shell puts into the background ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def repeated(cell: Path) -> tuple[int, int]:
    """How many steps of a cell were trained again: at least to the journal's last entry, at most to its next loss."""
    low = high = reached = 0
    begun = again = False
    for record in read_journal(cell):
        if record["type"] == "started":
            begun, again = True, begun
        elif "step" in record:
            if again:
                start = record["step"] if reached else 0
                following = min(reached - reached % LOG_EVERY + LOG_EVERY, STEPS)
                # A checkpoint may be there whose own entry, and those of its steps, were not.
                low, high = low + max(reached - start, 0), high + max(following - start, 0)
                again, reached = False, start
            # A checkpoint is told when it is written, which may be some steps later.
            reached = max(reached, record["step"])
    return low, high
