"""Sweeps without a file: what --axis asks for, and how its table is laid out."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

import pytest
from rich.console import Console

from tadp_ray.config.asked import make_sweep
from tadp_ray.config.errors import ConfigError
from tadp_ray.config.shipped import shipped
from tadp_ray.errors import UserError
from tadp_ray.sweep import engine
from tadp_ray.sweep.choices import Choices, check_varied
from tadp_ray.sweep.engine import run_plan
from tadp_ray.sweep.plan import ExperimentPlan
from tadp_ray.sweep.planning import choose, plan_recipe
from tadp_ray.tracking.run_spec import cell_run_spec
from tadp_ray.tracking.sender import replay
from tadp_ray.tracking.sweep_run import parent, record_plan, show_table
from tests.fixtures.cells import make_plan
from tests.fixtures.cli import invoke


def asked(recipe: Path, *axes: str, **settings: Any) -> ExperimentPlan:
    """The plan of a recipe at axes."""
    return choose(None, "pocket", recipe, Choices(axes=axes, **settings))


@pytest.fixture
def recipe(experiment: Path) -> Path:
    """The recipe of the tiny experiment."""
    return experiment.with_name("recipe.yaml")


def test_an_axis_is_added_to_an_experiment_as_rows(experiment: Path) -> None:
    plan = make_plan(experiment, "pocket", axes=["model.timestep=1,50,200"])
    assert (plan.name, len(plan.cells)) == ("tiny-timestep", 12)
    assert plan.table.rows.keys == ("caption.precision", "model.timestep")
    assert plan.table.rows.names[:3] == ("0.5, 1", "0.5, 50", "0.5, 200")
    assert plan.table.columns.keys == ("caption.recall",)
    # What is published is of the table without the axis.
    assert plan.table.published is None and plan.table.claims == ()
    assert {cell.recipe.model.timestep for cell in plan.cells} == {1, 50, 200}
    # Where the axis has the recipe's own value, cells are those of the experiment.
    own = {cell.fingerprint for cell in make_plan(experiment, "pocket").cells}
    assert own < {cell.fingerprint for cell in plan.cells}
    assert plan.command == f"tadp-ray sweep {experiment} --axis model.timestep=1,50,200"


@pytest.mark.parametrize(
    ("axes", "rows", "columns"),
    [
        (["caption.recall=0.5,1.0"], ("caption.recall",), ("metric",)),
        (["caption.recall=0.5,1.0", "model.timestep=1,50"], ("caption.recall",), ("model.timestep",)),
        (
            ["caption.recall=0.5,1.0", "model.timestep=1,50", "data.seed=0,1"],
            ("caption.recall", "data.seed"),
            ("model.timestep",),
        ),
    ],
)
def test_the_table_of_a_recipe_s_axes_lays_itself_out(
    recipe: Path, axes: list[str], rows: tuple[str, ...], columns: tuple[str, ...]
) -> None:
    plan = asked(recipe, *axes)
    assert (plan.table.rows.keys, plan.table.columns.keys, plan.table.metrics) == (rows, columns, ("miou",))
    places = [plan.table.place(cell, "miou") for cell in plan.cells]
    assert len(set(places)) == len(plan.cells) == 2 ** len(axes)
    assert plan.name == "recipe-" + "-".join(axis.partition("=")[0].rpartition(".")[2] for axis in axes)
    assert (plan.scale, plan.cells[0].seed) == ("pocket", 0)


def test_the_cells_of_a_recipe_s_axes_are_those_of_an_experiment_with_them(experiment: Path, recipe: Path) -> None:
    axes = ["caption.precision=0.5,1.0", "caption.recall=0.5,1.0"]
    plan = asked(recipe, *axes, seeds=[0, 3], name="my question")
    own = make_plan(experiment, "pocket", seeds=[0, 3])
    assert [cell.fingerprint for cell in plan.cells] == [cell.fingerprint for cell in own.cells]
    assert (plan.name, plan.key) == ("my question", own.key)
    words = "--axis caption.precision=0.5,1.0 --axis caption.recall=0.5,1.0 --name 'my question' --seeds 0,3"
    assert plan.command == f"tadp-ray sweep --recipe {recipe} {words}"


def test_sources_of_captions_are_compared_under_short_names(recipe: Path) -> None:
    axis = 'caption={source: oracle},{source: class_names},{source: "null"}'
    plan = asked(recipe, axis)
    assert plan.table.rows.headings == ("oracle", "class_names", "null")
    assert [cell.name for cell in plan.cells][::2] == ["caption=oracle seed=0", "caption=null seed=0"]
    for text in ("null", "caption=null", "caption={source: null}", 'caption={source: "null"}'):
        assert [cell.recipe.caption.source for cell in asked(recipe, axis, only=[text]).selected] == ["null"]
    plan = asked(recipe, "caption.source=oracle,null")
    assert plan.table.rows.headings == ("source oracle", "source null")
    assert asked(recipe, "caption.source=oracle,null", only=["source null"]).selected == plan.cells[1:]


def test_a_command_names_shipped_files_as_any_folder_knows_them() -> None:
    recipe = shipped("recipes")["pocket_segmentation"]
    assert asked(recipe, "model.timestep=1").command == (
        "tadp-ray sweep --recipe pocket_segmentation --axis model.timestep=1"
    )


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        (["model.timstep=1"], "--axis model.timstep=1: model.timstep: no such recipe key .* did you mean 'timestep'"),
        (["model.timestep"], "--axis model.timestep: expected key=value,value"),
        (["model.timestep="], "expected key=value,value"),
        (["model.timestep=1,1"], "--axis: .*names a value twice"),
        (["model.timestep=1", "model.timestep=50"], "model.timestep is given twice"),
        (["model.timestep=1,x"], "recipe.yaml with --axis model.timestep=x: model.timestep='x'"),
        (["caption.source=oracle,orakle"], "with --axis caption.source=orakle: caption.source='orakle'"),
        (["caption.wording=short,long"], "recipe.yaml with --axis caption.wording=long: caption: wording: long"),
        (["compute.cpus=1,2"], "compute.cpus: compute keys say where and how fast"),
    ],
)
def test_keys_and_values_are_refused_as_in_files(recipe: Path, axes: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        asked(recipe, *axes)


@pytest.mark.parametrize("axis", ["caption.recall=0.1", "caption={source: oracle}"])
def test_an_axis_that_an_experiment_has_is_not_added(experiment: Path, axis: str) -> None:
    with pytest.raises(ConfigError, match="sweep.yaml varies caption.* already; select its values with --only"):
        make_plan(experiment, "pocket", axes=[axis])


def test_what_is_lacking_is_said(experiment: Path, recipe: Path) -> None:
    with pytest.raises(UserError, match="--recipe recipe: what is to vary"):
        choose(None, "pocket", recipe, Choices())
    with pytest.raises(UserError, match="name an experiment"):
        choose(None, "pocket", None, Choices(axes=["model.timestep=1"]))
    with pytest.raises(UserError, match="--scale paper: --recipe recipe is of the pocket scale"):
        choose(None, "paper", recipe, Choices(axes=["model.timestep=1"]))
    with pytest.raises(UserError, match="--name x: names a sweep with --axis"):
        choose(experiment, "pocket", None, Choices(name="x"))
    with pytest.raises(ConfigError, match="--name a/b: expected letters"):
        asked(recipe, "model.timestep=1", name="a/b")
    with pytest.raises(ConfigError, match="--name prec_recall: a shipped experiment is called so"):
        asked(recipe, "model.timestep=1", name="prec_recall")


@pytest.fixture
def run(store, journals, tmp_path: Path) -> Callable[[ExperimentPlan], None]:
    """Puts a plan into the store as a sweep does, all cells trained, with mIoU 10, 20 ..."""

    def put(plan: ExperimentPlan) -> None:
        sweep = parent(store, plan.name, plan.scale, plan.key)
        record_plan(store, sweep, plan.settings, plan.cells, plan.layout)
        if plan.layout:
            show_table(store, sweep)
        for number, cell in enumerate(plan.cells, 1):
            journals.start(cell)
            journals.finish(cell, miou=10.0 * number)
            replay(store, cell_run_spec(sweep, cell))

    return put


def test_commands_that_errors_name_run_with_spaces_in_names(store, run, recipe: Path, tmp_path: Path) -> None:
    spaced = recipe.rename(tmp_path / "my recipe.yaml")
    with pytest.raises(UserError, match=r"to train it once: tadp-ray train '.*my recipe.yaml'$"):
        choose(None, "pocket", spaced, Choices())
    plan = asked(spaced, "caption.recall=0.5,1.0", overrides=[f"compute.storage={tmp_path}/runs"])
    run(plan_recipe(plan.cells[0].recipe, "my recipe", "my recipe", "What does it reach?", 0))
    done = invoke("table", "my recipe", "--tracking-uri", store.uri)
    assert done.exit_code == 2 and "`tadp-ray status 'my recipe'` shows its cells" in done.stderr


def test_a_bug_of_the_command_is_no_stop_by_the_user(
    store, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = asked(recipe, "model.timestep=1,50", overrides=[f"compute.storage={tmp_path}/runs"])

    def fail(*_: object) -> NoReturn:
        raise RuntimeError

    monkeypatch.setattr(engine, "train_missing", fail)
    with pytest.raises(RuntimeError):
        run_plan(plan, store, None, Console(quiet=True))
    experiment = store.client.get_experiment_by_name(plan.name).experiment_id
    assert [run.info.status for run in store.client.search_runs([experiment])] == ["FAILED"]


@pytest.mark.slow
def test_its_table_and_its_report_come_from_mlflow_alone(
    store, run, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = asked(
        recipe,
        "caption.recall=0.5,1.0",
        "model.timestep=1,50",
        overrides=[f"compute.storage={tmp_path}/runs"],
    )
    run(plan)
    # A later training of the same name fills no table, nor does a sweep that is refused before it trains.
    run(plan_recipe(plan.cells[0].recipe, plan.name, "recipe made in Python", "What does it reach?", 7))
    small = [f"compute.storage={tmp_path}/other", "augment.crop=36"]
    refused = asked(recipe, "caption.recall=0.25,1.0", "model.timestep=1,50", overrides=small)
    monkeypatch.setattr(engine, "ray_session", lambda _: nullcontext([{"CPU": 1.0}]))
    for name in ("grow", "check_nodes"):
        monkeypatch.setattr(engine, name, lambda *_: None)
    with pytest.raises(UserError, match="augment.crop=36: must be a multiple"):
        run_plan(refused, store, None, Console(quiet=True))
    experiment = store.client.get_experiment_by_name(refused.name).experiment_id
    (failed,) = store.client.search_runs([experiment], "attributes.status = 'FAILED'")
    assert "tadp.sweep" in failed.data.tags
    for file in ("recipe.yaml", "sweep.yaml"):
        (tmp_path / file).unlink()
    words = ["--tracking-uri", store.uri]
    folder = tmp_path / "tables"
    done = invoke("table", "recipe-recall-timestep", "--storage", folder, *words)
    assert done.exit_code == 0, done.output
    text = (folder / "recipe-recall-timestep/pocket/table.md").read_text()
    assert "| recall | timestep 1 | timestep 50 |" in text and "| 1.0 | 30.00 | **40.00** |" in text
    shown = invoke("table", "recipe-recall-timestep", "--storage", folder, "--json", *words)
    found = json.loads(shown.stdout)
    assert (found["rows"], found["columns"]) == (["caption.recall"], ["model.timestep"])
    assert [entry["mean"] for entry in found["entries"]] == [10, 20, 30, 40]
    assert all(len(entry["run_ids"]) == 1 for entry in found["entries"])
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments/one.yaml").write_text(
        "question: q\nrecipes: {pocket: pocket_segmentation}\nsweep: caption_precision_recall\n"
        "table: {title: t, rows: [caption.precision], columns: [caption.recall]}\n"
    )
    report = ["report", str(tmp_path / "report"), "--experiments", str(tmp_path / "experiments"), *words]
    done = invoke(*report)
    assert done.exit_code == 0, done.output
    assert "recipe: mIoU (%) by caption.recall and model.timestep" in done.output
    assert plan.command in (tmp_path / "report/report.md").read_text()


def test_a_table_of_neither_a_file_nor_a_sweep_names_the_nearest(store, run, recipe: Path, tmp_path: Path) -> None:
    run(asked(recipe, "model.timestep=1,50", overrides=[f"compute.storage={tmp_path}/runs"]))
    done = invoke("table", "recipe-timestap", "--tracking-uri", store.uri)
    assert done.exit_code == 2 and "did you mean 'recipe-timestep'" in done.stderr
    done = invoke("table", "prec_recal", "--tracking-uri", store.uri)
    assert done.exit_code == 2 and "did you mean 'prec_recall'" in done.stderr


def test_the_same_line_again_finds_its_cells_finished(store, run, recipe: Path, tmp_path: Path) -> None:
    axes, changes = ["model.timestep=1,50"], [f"compute.storage={tmp_path}/runs"]
    run(asked(recipe, *axes, overrides=changes))
    words = ["sweep", "--recipe", str(recipe), "--axis", axes[0], "--set", changes[0], "--tracking-uri", store.uri]
    done = invoke(*words)
    assert done.exit_code == 0, done.output
    assert "2 cells, 2 already finished, 0 to train" in done.output
    assert "20.00" in (tmp_path / "runs/recipe-timestep/pocket/table.md").read_text()


def test_what_a_variant_sets_is_named_with_its_axis() -> None:
    sweep = make_sweep(
        {"text": {"none": {"caption.source": "null"}, "own": {"model": {"weights": "x"}}}, "data.train": [1, 2]}
    )
    check_varied("caption.recall=0.5", sweep, "s.yaml")
    for text, said in (
        (
            "model.weights=y",
            r"--set model.weights=y: s.yaml: the axis text sets this key in own; write the value into a copy",
        ),
        ("data.train=3", r"--set data.train=3: s.yaml varies this key; select its values with --only"),
    ):
        with pytest.raises(ConfigError, match=said):
            check_varied(text, sweep, "s.yaml")
