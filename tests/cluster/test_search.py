"""A search on real Ray gives up the worse candidates and leaves a recipe."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tadp_ray.config.load import load_recipe
from tadp_ray.sweep.search import plan_search
from tadp_ray.training.journal import final_metrics, read_journal
from tests.fixtures.cli import invoke

pytestmark = pytest.mark.cluster
SEARCH = """\
space: {schedule.learning_rate: {low: 1e-5, high: 1e-2}}
candidates: 5
grace_period: 4
reduction_factor: 2
"""
SLOW_END = """\
end = AsyncCheckpointer.__exit__


def slow_end(self, kind, error, trace):
    time.sleep(3 if kind is SystemExit else 0)
    return end(self, kind, error, trace)


AsyncCheckpointer.__exit__ = slow_end
"""


def test_the_best_candidate_becomes_a_recipe(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after_import: Callable[[str, str], None]
) -> None:
    """A candidate that is stopped takes longer to end than Tune would wait by itself."""
    after_import("tadp_ray.training.async_checkpointer", SLOW_END)
    recipe, file, out = experiment.parent / "recipe.yaml", tmp_path / "search.yaml", tmp_path / "found/best.yaml"
    file.write_text(SEARCH)
    changes = ["schedule.iterations=16", "compute.storage=runs"]
    flags = [word for change in changes for word in ("--set", change)]
    command = ["search", str(recipe), str(file), *flags, "--out"]
    monkeypatch.chdir(tmp_path)
    done = invoke(*command, out)
    assert done.exit_code == 0, done.output

    cells = plan_search(recipe, file, [changes[0], f"compute.storage={tmp_path}/runs"], 0).cells
    rates = [cell.recipe.schedule.learning_rate for cell in cells]
    assert len({*rates}) == 5 and all(1e-5 <= rate <= 1e-2 for rate in rates)
    finals = [final_metrics(cell.folder, cell.fingerprint) for cell in cells]
    reached = [max(record.get("step", 0) for record in read_journal(cell.folder)) for cell in cells]
    # Two at once: whoever comes to a rung later than a better one is given up there.
    assert any(final is None for final in finals) and {*reached} <= {4, 8, 16}
    best = max((final["miou"], rate) for final, rate in zip(finals, rates, strict=True) if final)

    found = load_recipe(out)
    assert found.schedule.learning_rate == best[1] and found.schedule.iterations == 16
    assert found.data == load_recipe(recipe).data and f"miou {best[0]:.4g} on val" in out.read_text()
    assert str(tmp_path) not in out.read_text()

    # The same search again trains nothing.
    ended = sum(final is not None for final in finals)
    journals = [list(read_journal(cell.folder)) for cell in cells]
    again = invoke(*command, out.with_name("again.yaml"))
    assert f"5 cells, {ended} already finished, {5 - ended} stopped early, 0 to train" in again.output, again.output
    assert [list(read_journal(cell.folder)) for cell in cells] == journals
    assert load_recipe(out.with_name("again.yaml")).schedule == found.schedule
    shown = json.loads(invoke("status", "--json").stdout)["cells"]
    assert [cell["state"] for cell in shown] == ["finished" if final else "stopped early" for final in finals]
