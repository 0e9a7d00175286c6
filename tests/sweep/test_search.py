"""What a search writes is the candidate that it has trained, and never in the place of what that extends."""

import math
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ray.tune.experiment import Trial

from tadp_ray.config.cell import Cell
from tadp_ray.config.errors import ConfigError
from tadp_ray.config.load import load_recipe, load_search
from tadp_ray.config.search import Range, Search
from tadp_ray.errors import UserError
from tadp_ray.sweep import engine, search
from tadp_ray.sweep.cell_state import CellState
from tadp_ray.sweep.engine import early_stopping
from tadp_ray.sweep.search import check_out, plan_search, write_best
from tadp_ray.sweep.states import cell_report
from tadp_ray.sweep.stopped import note_stopped, stopped_by
from tadp_ray.training.reporter import Journal

SEARCH = "space: {schedule.learning_rate: {low: 1e-5, high: 1e-2}}\ncandidates: 2\ngrace_period: 2\n"


@pytest.mark.parametrize(
    ("change", "extends", "metric"),
    [
        ("caption.recall=0.75", True, "miou"),
        ("caption.recall=0.75", True, "rmse"),
        # A group that an override replaces starts at the defaults, and not at the recipe's.
        ("caption={source: oracle}", False, "miou"),
        ("caption={source: 'null'}", False, "miou"),
    ],
)
def test_the_written_recipe_is_the_best_candidate(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, extends: bool, metric: str
) -> None:
    recipe, file, out = experiment.parent / "recipe.yaml", tmp_path / "search.yaml", tmp_path / "found/best.yaml"
    recipe.write_text(recipe.read_text().replace("{source: oracle}", "{source: oracle, precision: 0.5, recall: 0.5}"))
    file.write_text(SEARCH)
    plan = plan_search(recipe, file, [change], 0)
    worse = 1.0 if metric == "rmse" else -1.0
    rows = {
        cell.fingerprint: SimpleNamespace(metrics={metric: 9.0 + worse * i}, run_id="r")
        for i, cell in enumerate(plan.cells)
    }
    monkeypatch.setattr(search, "finished", lambda store, fingerprints: rows)
    monkeypatch.setattr(search, "main_metric", lambda task: metric)
    assert f"{metric} 9 on val" in write_best(plan, None, recipe, [change], out)
    found, best = load_recipe(out), plan.cells[0].recipe
    assert found.caption == best.caption and found.schedule == best.schedule
    assert ("extends: " in out.read_text()) is extends
    # The same command again may write it anew.
    check_out(recipe, out)


@pytest.mark.parametrize("metric", ["miou", "rmse"])
def test_a_candidate_that_ended_in_no_number_is_not_the_best(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metric: str
) -> None:
    recipe, file, out = experiment.parent / "recipe.yaml", tmp_path / "search.yaml", tmp_path / "best.yaml"
    file.write_text(SEARCH)
    plan = plan_search(recipe, file, [], 0)
    values = dict(zip((cell.fingerprint for cell in plan.cells), (math.nan, 9.0), strict=True))
    rows = {name: SimpleNamespace(metrics={metric: value}, run_id="r") for name, value in values.items()}
    monkeypatch.setattr(search, "finished", lambda store, fingerprints: rows)
    monkeypatch.setattr(search, "main_metric", lambda task: metric)
    assert f"{metric} 9 on val" in write_best(plan, None, recipe, [], out)
    assert load_recipe(out).schedule == plan.cells[1].recipe.schedule


def test_a_grace_period_ends_within_the_training(experiment: Path, tmp_path: Path) -> None:
    recipe, file = experiment.parent / "recipe.yaml", tmp_path / "search.yaml"
    file.write_text(SEARCH.replace("grace_period: 2", "grace_period: 9"))
    with pytest.raises(
        UserError, match=r"search\.yaml: grace_period=9: is more than the 8 steps of a candidate .*; lower"
    ):
        plan_search(recipe, file, ["schedule.iterations=8"], 0)
    plan_search(recipe, file, ["schedule.iterations=9"], 0)


def test_keys_that_a_search_sets_are_not_set_beside_it(experiment: Path, tmp_path: Path) -> None:
    file = tmp_path / "search.yaml"
    file.write_text(SEARCH)
    (key,) = load_search(file).space
    for text in (f"{key}=0.5", "evaluation.interval=77"):
        with pytest.raises(
            ConfigError, match=rf"^--set {re.escape(text)}: the search .*search.yaml sets this key; change it"
        ):
            plan_search(experiment.parent / "recipe.yaml", file, [text], 0)


def test_what_is_drawn_lies_in_its_range() -> None:
    """Though it is rounded."""
    rng = np.random.default_rng(0)
    for scale in ("log", "linear"):
        narrow = Range(low=1.2345e-3, high=1.2349e-3, scale=scale)
        assert all(narrow.low <= narrow.draw(rng) <= narrow.high for _ in range(20))


def test_a_search_never_scores_on_test(experiment: Path, tmp_path: Path) -> None:
    file = tmp_path / "search.yaml"
    file.write_text(SEARCH)
    plan = plan_search(experiment.parent / "recipe.yaml", file, ["data.eval_split=test"], 0)
    assert {cell.recipe.data.eval_split for cell in plan.cells} == {"val"}


def test_a_recipe_is_not_overwritten_by_one_that_extends_it(tmp_path: Path) -> None:
    base, mine = tmp_path / "base.yaml", tmp_path / "mine.yaml"
    base.write_text("task: depth\n")
    mine.write_text("extends: base.yaml\n")
    for out in (mine, base, tmp_path / "." / "mine.yaml"):
        with pytest.raises(UserError, match=r"--out .*\.yaml: is the recipe to improve, or one that it extends"):
            check_out(mine, out)
    with pytest.raises(UserError, match=r"--out .*: is a folder; name a file in it, e\.g\. .*found\.yaml"):
        check_out(mine, tmp_path)
    check_out(mine, tmp_path / "found.yaml")


def test_a_search_writes_over_nothing_but_what_a_search_has_written(tmp_path: Path) -> None:
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "found.yaml"
    recipe.write_text("task: depth\n")
    # A recipe that extends the one to improve, and the search that was read.
    for text in ("extends: recipe.yaml\n", SEARCH):
        out.write_text(text)
        with pytest.raises(
            UserError, match=r"--out .*found\.yaml: is a file that no search has written, .*; name another"
        ):
            check_out(recipe, out)
    for text in ("", f"{search.FOUND}miou 9 on val.\nextends: recipe.yaml\n"):
        out.write_text(text)
        check_out(recipe, out)


def test_a_candidate_is_stopped_until_it_is_started_again(make_cell) -> None:
    cell, rule = make_cell(), {"space": {"schedule.learning_rate": {"low": 1e-5, "high": 1e-2}}, "grace_period": 2}
    own, other = Search(**rule), Search(**rule, reduction_factor=2)
    with Journal(cell.folder, cell.fingerprint) as journal:
        journal.report(2, {"miou": 10.0})
        assert not stopped_by(cell, own)
        note_stopped(cell, own)
        assert CellState.read(cell).status == "stopped early"
    assert stopped_by(cell, own) and stopped_by(cell, Search(**rule, candidates=99)) and not stopped_by(cell, other)
    report = cell_report(cell, None, None)
    assert (report.state, report.step, report.score) == ("stopped early", 2, 10.0)
    # A search with another rule, a sweep or `train` goes on with it.
    with Journal(cell.folder, cell.fingerprint):
        assert CellState.read(cell).phase == "loading" and not stopped_by(cell, own)


@pytest.mark.parametrize("metric", ["miou", "rmse"])
def test_a_resumed_search_compares_with_what_it_had_trained(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metric: str
) -> None:
    """The scores are of mIoU; as errors they are taken from 100."""
    monkeypatch.setattr(engine, "main_metric", lambda task: metric)
    told = lambda score: {metric: 100 - score if metric == "rmse" else score}
    file = tmp_path / "search.yaml"
    file.write_text(SEARCH.replace("candidates: 2", "candidates: 4\nreduction_factor: 2"))
    plan = plan_search(experiment.parent / "recipe.yaml", file, ["schedule.iterations=8"], 0)
    ended, resumed, worse, better = plan.cells
    for cell, reached in ((ended, {2: 30.0, 4: 40.0}), (resumed, {2: 20.0, 4: 40.0})):
        with Journal(cell.folder, cell.fingerprint) as journal:
            for step, score in reached.items():
                journal.report(step, told(score))
    scheduler = early_stopping(plan, [resumed, worse, better])

    def decision(cell: Cell, step: int, score: float) -> str:
        return scheduler.on_trial_result(None, trials[cell.fingerprint], {"step": step, **told(score)})

    todo = (resumed, worse, better)
    trials = {own.fingerprint: Trial("t", trial_id=own.name, config={"cells": [own]}, stub=True) for own in todo}
    for trial in trials.values():
        scheduler.on_trial_add(None, trial)
    # The step after which others are compared is over for the resumed one, which has passed it.
    assert decision(resumed, 6, 1.0) == "CONTINUE"
    assert [decision(worse, 2, 24.0), decision(better, 2, 26.0)] == ["STOP", "CONTINUE"]
    assert decision(better, 4, 39.0) == "STOP"
