"""A sweep on real Ray that another command shows and stops."""

import json

import pytest

from tadp_ray.training.reporter import checkpoints
from tests.fixtures.cli import invoke

pytestmark = pytest.mark.cluster


def test_stop_from_another_command_keeps_the_checkpoint(sweep, one_at_a_time) -> None:
    # Long enough to be in training while the commands look at it.
    hit = sweep("stopped_from_elsewhere", "--set", "compute.checkpoint_every=2", steps=400)
    driver = hit.start()
    hit.wait_for_checkpoint()
    storage = ["--storage", f"{hit.folder}/runs"]
    words = ["--json", *storage, "--tracking-uri", f"sqlite:///{hit.folder}/mlflow.db"]
    (listed,) = json.loads(invoke("list", *words).stdout)
    assert (listed["name"], listed["state"], listed["cells"]) == ("tiny", "running", 4)
    cells = json.loads(invoke("status", *words).stdout)["cells"]
    assert "not started" in [cell["state"] for cell in cells]
    done = invoke("stop", *storage)
    assert done.exit_code == 0 and "tiny (pocket scale) was stopped" in done.stdout, done.output
    code, said = hit.end()
    assert code == 130 and "run the same command again to resume" in said and not driver.is_running(), said
    (listed,) = json.loads(invoke("list", *words).stdout)
    assert listed["state"] == "stopped"
    assert any(checkpoints(cell) for cell in hit.folder.glob("runs/cells/*"))
