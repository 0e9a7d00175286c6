"""Real Ray, real MLflow, real kills: whatever happens, the finished table is the undisturbed one, digit for digit."""

import signal
from contextlib import chdir
from pathlib import Path

import psutil
import pytest

from tests.fixtures.cli import invoke

pytestmark = pytest.mark.cluster


def test_a_finished_sweep_is_never_trained_again(sweep, one_at_a_time, undisturbed, experiment: Path) -> None:
    """And its numbers are those of the same cells without Ray."""
    first = sweep("runs0")
    code, said = first.run_here()
    assert code == 0 and "2 to train" in said and "published 63.29" in said, said
    assert all(f"\n{what}  " in said for what in ("curves", "watch", "table", "stop", "continue")), said
    assert first.table() == undisturbed
    trained = first.steps()
    for name in ("table.md", "table.tex", "table.html", "table.png", "curves.png"):
        (first.folder / "runs/tiny/pocket" / name).unlink()
    code, said = first.run_here()
    assert code == 0 and "2 already finished, 0 to train" in said, said
    assert first.table() == undisturbed and first.steps() == trained
    assert (first.folder / "runs/tiny/pocket/curves.png").is_file()
    with chdir(first.folder):
        done = invoke("table", experiment)
    assert done.exit_code == 0 and first.table() == undisturbed, done.output


def test_killed_trial_of_ray_train(sweep, one_at_a_time, undisturbed, training) -> None:
    """In the middle of a cell; Ray starts another. With it goes its worker, whose core the next trial's needs.

    Every digit is that of no fault and of no Ray Train.
    """
    hit = sweep("killed_trial", "--set", "compute.checkpoint_every=2", "--set", "compute.num_train_workers=1")
    driver = hit.start()
    hit.wait_for_checkpoint()
    killed = training(driver)
    assert killed
    for process in killed:
        process.kill()
    code, said = hit.end()
    assert code == 0 and "resuming from its last checkpoint" in said and "Traceback" not in said, said
    assert hit.table() == undisturbed


def test_stopped_and_started_again(sweep, one_at_a_time, undisturbed, training) -> None:
    """Whether the command is killed or told to stop, its cells stop with it, and the same command goes on.

    (Two idle helpers of Ray's notice after a minute that their command was killed, and leave.)
    """
    hit = sweep("stopped", "--set", "compute.checkpoint_every=2")
    for how in (signal.SIGKILL, signal.SIGINT):
        driver = hit.start()
        hit.wait_for_checkpoint()
        family = training(driver) if how == signal.SIGKILL else driver.children(recursive=True)
        assert family
        driver.send_signal(how)
        code, said = hit.end()
        assert not psutil.wait_procs(family, timeout=900)[1]
        if how != signal.SIGKILL:
            assert code == 130 and "run the same command again to resume" in said and "Traceback" not in said, said
    code, said = hit.run_here()
    assert code == 0, said
    assert hit.table() == undisturbed
