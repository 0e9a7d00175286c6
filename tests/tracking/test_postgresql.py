"""Several processes send to one MLflow server on a PostgreSQL that dies under them: everything arrives, once."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_postgresql import PostgreSQL

from tadp_ray.tracking.query import finished, history, rows
from tadp_ray.tracking.run_spec import cell_run_spec
from tadp_ray.tracking.sender import replay
from tadp_ray.tracking.store import open_store
from tadp_ray.tracking.sweep_run import parent

pytestmark = pytest.mark.cluster

WRITER = """
import sys, time
from pathlib import Path
from tadp_ray.config.cell import Cell
from tadp_ray.tracking.sender import Sender
from tadp_ray.tracking.run_spec import cell_run_spec
from tadp_ray.tracking.store import open_store
from tadp_ray.training.reporter import Journal
address, sweep, gate, *texts = sys.argv[1:]
cells = [Cell.model_validate_json(text) for text in texts]
sender = Sender(open_store(address), [cell_run_spec(sweep, cell) for cell in cells], period=0.1)
journals = [Journal(cell.folder, cell.fingerprint) for cell in cells]
for step in range(1, 101):
    while step > 50 and not Path(gate).exists():
        time.sleep(0.05)
    for journal in journals:
        journal.report(step, {"loss": 1 / step, "miou": step / 2})
    time.sleep(0.02)
for journal in journals:
    journal.finish(100, {"loss": 0.01, "miou": 50.0})
sys.exit(sender.close(timeout=900))
"""


@pytest.fixture
def postgresql(free_ports) -> Iterator[PostgreSQL]:
    """A PostgreSQL server of this test's own."""
    try:
        server = PostgreSQL(*free_ports(1))
    except FileNotFoundError as error:
        pytest.skip(str(error))
    yield server
    server.remove()


def test_several_writers_lose_nothing_when_postgresql_dies(
    postgresql, store, make_cell, free_port, tmp_path: Path, monkeypatch
):
    from tadp_ray.tracking.dashboard import serve

    monkeypatch.chdir(tmp_path)  # where the server keeps its files
    cells = [make_cell(seed=seed) for seed in range(6)]
    with serve(open_store(postgresql.uri), "127.0.0.1", free_port) as (address, _):
        remote = open_store(address)
        sweep = parent(remote, "prec_recall", "pocket", "key")
        writers, logs = [], [tmp_path / f"{index}.log" for index in range(3)]
        for pair, log in zip((cells[:2], cells[2:4], cells[4:]), logs, strict=True):
            words = [address, sweep, "gate", *(cell.model_dump_json() for cell in pair)]
            with log.open("w") as file:
                writers.append(subprocess.Popen([sys.executable, "-c", WRITER, *words], stderr=file))
        # Every writer has begun, and waits at the gate.
        while sum(bool(row.metrics) for row in rows(remote, "prec_recall")) < len(cells):
            assert all(writer.poll() is None for writer in writers), [log.read_text() for log in logs]
            time.sleep(0.05)
        postgresql.kill()
        (tmp_path / "gate").touch()
        while not all("does not accept records" in log.read_text() for log in logs):
            assert all(writer.poll() is None for writer in writers), [log.read_text() for log in logs]
            time.sleep(0.05)
        postgresql.start()
        for writer, log in zip(writers, logs, strict=True):
            assert writer.wait(timeout=900) == 0 and "is back" in log.read_text(), log.read_text()
        sent = rows(remote, "prec_recall")
        assert len(sent) == len(cells)
        disturbed = {row.fingerprint: [history(remote, row.run_id, key) for key in ("loss", "miou")] for row in sent}

    undisturbed = parent(store, "prec_recall", "pocket", "key")
    for cell in cells:
        replay(store, cell_run_spec(undisturbed, cell))
    calm = finished(store, [cell.fingerprint for cell in cells])
    assert disturbed == {
        row.fingerprint: [history(store, row.run_id, key) for key in ("loss", "miou")] for row in calm.values()
    }
    assert {row.status for row in sent} == {"FINISHED"} and len(disturbed[cells[0].fingerprint][0]) == 100
