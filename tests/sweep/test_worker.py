"""Which cells a restarted worker takes up once more."""

import subprocess
import sys
from collections.abc import Callable

from tadp_ray.config.cell import Cell
from tadp_ray.sweep.worker import given_up


def test_records_are_known_by_their_command_and_not_by_clocks(make_cell: Callable[..., Cell], journals) -> None:
    """A node's clock may be hours ahead or behind: it decides nothing."""
    cell = make_cell()
    for _ in range(9):
        journals.write(cell, type="started", time=2e9, command="earlier")
    journals.write(cell, type="failed", error="the loss is nan", time=3e9)
    assert given_up(cell, "mine", patient=False) is None
    most = cell.recipe.compute.max_failures
    for start in range(most + 1):
        assert given_up(cell, "mine", patient=False) is None, start
        journals.write(cell, type="started", time=1.0, command="mine")
    assert given_up(cell, "mine", patient=False) == f"its worker died {most + 1} times"
    assert given_up(cell, "mine", patient=True) is None


def test_a_bug_is_tried_again_and_what_the_user_must_mend_is_not(make_cell: Callable[..., Cell], journals) -> None:
    cell = make_cell()
    most = cell.recipe.compute.max_failures
    for start in range(most + 1):
        assert given_up(cell, "mine", patient=False) is None, start
        journals.write(cell, type="started", command="mine")
        journals.write(cell, type="failed", error="TypeError: None", traceback="traceback.txt")
    assert given_up(cell, "mine", patient=False) == "TypeError: None"
    journals.write(cell, type="started", command="next")
    journals.write(cell, type="failed", error="the loss is nan")
    assert given_up(cell, "next", patient=True) == given_up(cell, "next", patient=False) == "the loss is nan"


def test_processes_that_train_load_no_mlflow() -> None:
    """Each of them would pay for it with seconds and memory, and only the command talks to MLflow."""
    code = (
        "import sys, tadp_ray.sweep.cluster, tadp_ray.sweep.worker; print({'mlflow', 'sqlalchemy'} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (said.returncode, said.stdout) == (0, "set()\n"), said.stderr
