"""A plan is the cells that files and flags ask for; what changes no result changes no fingerprint."""

import itertools
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tadp_ray.backbones.stable_diffusion.learned_tokens import LearnedToken, write_learned
from tadp_ray.captions.store import CaptionStore
from tadp_ray.config.cell import Cell
from tadp_ray.config.errors import ConfigError
from tadp_ray.config.load import load_recipe
from tadp_ray.config.shipped import shipped
from tadp_ray.config.vocabulary import ExpandedPath, StrictModel
from tadp_ray.data.files import FileDataset
from tadp_ray.errors import UserError
from tadp_ray.sweep.inputs import with_absolute_paths
from tadp_ray.sweep.plan import Plan
from tadp_ray.sweep.planning import plan_one
from tadp_ray.sweep.preview import preview, recipe_preview
from tadp_ray.sweep.times import estimate
from tadp_ray.tracking.journal_run import flatten
from tadp_ray.tracking.query import CellRow
from tadp_ray.tracking.run_spec import cell_run_spec
from tadp_ray.training.check import check_setup
from tadp_ray.training.digests import all_hashed
from tadp_ray.training.setup import TrainSetup
from tests.fixtures.cells import make_plan

ROOT = Path(__file__).resolve().parents[2]


def fingerprints(file: Path, *overrides: str) -> list[str]:
    """Of every cell, in order."""
    return [cell.fingerprint for cell in make_plan(file, "pocket", overrides=overrides).cells]


def test_cells_are_axes_times_seeds(experiment: Path) -> None:
    plan = make_plan(experiment, "pocket", seeds=[0, 7], only=["caption.recall=1"])
    assert len(plan.cells) == 8 and len({cell.fingerprint for cell in plan.cells}) == 8
    assert len({cell.group for cell in plan.cells}) == 4
    assert [cell.name for cell in plan.selected][:2] == [
        "precision=0.5 recall=1.0 seed=0",
        "precision=0.5 recall=1.0 seed=7",
    ]
    assert plan.folder == Path("runs/tiny/pocket").absolute()
    both = make_plan(experiment, "pocket", only=["caption.recall=1", "caption.recall=0.5", "caption.precision=1"])
    assert [cell.axes["caption.recall"] for cell in both.selected] == [0.5, 1.0]
    own = make_plan(experiment, "pocket", seeds=np.arange(2))
    assert [cell.seed for cell in own.cells[:2]] == [0, 1] and type(own.cells[1].seed) is int
    assert plan.key == own.key, "more seeds fill the same table"


@pytest.mark.parametrize(
    "seeds", [[0, 1, 0], [2**63], [0.0], ["0"], [True], [np.True_], [-1], [], "01", 3, np.array([0.5])]
)
def test_seeds_are_distinct_integers_from_0(experiment: Path, seeds: Any) -> None:
    """Others had fingerprints of their own, and runs that no table could read."""
    said = f"seeds={seeds!r}: expected distinct integers from 0 and below 2**63, e.g. 0,1,2"
    with pytest.raises(ConfigError, match=f"^{re.escape(said)}$"):
        make_plan(experiment, "pocket", seeds=seeds)


def test_a_plan_carries_its_table_and_knows_each_cells_row_and_column(experiment: Path) -> None:
    plan = make_plan(experiment, "pocket", seeds=[0, 7], only=["caption.recall=1"])
    assert plan.table.rows.names == ("0.5", "1.0") == plan.table.columns.names
    places = [plan.table.place(cell, "miou") for cell in plan.cells]
    assert places == [(0, 0), (0, 0), (0, 1), (0, 1), (1, 0), (1, 0), (1, 1), (1, 1)]
    # Several metrics are an axis of the table: a cell stands at a place of each.
    text = experiment.read_text().partition("  published")[0]
    experiment.write_text(text.replace("columns: [", "metrics: [miou, accuracy]\n  columns: [metric, "))
    several = make_plan(experiment, "pocket")
    assert [several.table.place(several.cells[-1], metric) for metric in ("miou", "accuracy")] == [(1, 1), (1, 3)]


def test_fingerprints_follow_what_can_change_a_result(experiment: Path, tmp_path: Path) -> None:
    before = fingerprints(experiment)
    still = (
        "compute.num_train_workers=2",
        "compute.num_workers=2",
        f"compute.storage={tmp_path}/elsewhere",
        "compute.checkpoint_every=1",
    )
    assert fingerprints(experiment, *still) == before
    for change in (
        "schedule.iterations=7",
        "data.seed=1",
        "model.attention_maps=none",
        "schedule.micro_batch=2",
        "compute.cpus=2",
    ):
        assert not set(fingerprints(experiment, change)) & set(before)


def test_a_swapped_recipe_is_an_experiment_of_its_own(experiment: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: recipe.yaml\nschedule: {iterations: 4}\n")
    plan = make_plan(experiment, "pocket", recipe=tmp_path / "mine.yaml", overrides=["compute.cpus =2", "data.seed=3"])
    assert plan.name == "tiny-mine" and plan.settings == "recipe mine, compute.cpus =2, data.seed=3"
    assert plan.recipe.schedule.iterations == 4 and {cell.experiment for cell in plan.cells} == {"tiny-mine"}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"scale": "paper"}, "tiny.yaml: recipes: none for --scale paper; it has pocket"),
        ({"only": ["caption.recal=1"]}, "did you mean 'caption.recall'?"),
        ({"only": ["caption.recall=0.7"]}, "the values of this axis are 0.5, 1.0"),
        ({"overrides": ["schedule.power"]}, "expected key=value"),
        ({"overrides": ["schedule.iteration=3"]}, "no such recipe key .*did you mean 'iterations'?"),
        ({"overrides": ["schedule.iterations=three"]}, "--set schedule.iterations=three: .*valid integer"),
    ],
)
def test_flags_that_fit_nothing_are_refused(experiment: Path, flags: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_plan(experiment, **{"scale": "pocket", **flags})


@pytest.mark.parametrize(
    ("values", "key", "axis", "said"),
    [
        (
            "[0, 1]",
            "caption.recall",
            "[1]",
            "recipe.yaml with sweep .*sweep.yaml, caption.precision=0, caption.recall=1: caption.precision=0.*greater than 0",
        ),
        ("[0.5, 1.5]", "caption.recall", "[1]", "caption.precision=1.5.*less than or equal to 1"),
        ("[1]", "capton.recall", "[1]", "capton.recall: no such recipe key.*did you mean 'caption'?"),
        ("[1]", "compute.cpus", "[1, 2]", "and cannot be an axis"),
        ("[1]", "compute", "[{cpus: 1}, {cpus: 2}]", "compute: compute keys say where and how fast"),
    ],
)
def test_axes_that_make_no_cells_are_refused(experiment: Path, values: str, key: str, axis: str, said: str) -> None:
    (experiment.parent / "sweep.yaml").write_text(f"axes: {{caption.precision: {values}, {key}: {axis}}}\n")
    text = experiment.read_text().partition("  published")[0]
    experiment.write_text(text.replace("caption.recall", key))
    with pytest.raises(ConfigError, match=said):
        make_plan(experiment, "pocket")


def test_what_training_would_stumble_over_is_said_before(experiment: Path, tmp_path: Path) -> None:
    def said(*overrides: str) -> str:
        with pytest.raises(UserError) as caught:
            plan = make_plan(experiment, "pocket", overrides=overrides)
            plan.check(plan.selected)
        return str(caught.value)

    store = tmp_path / "captions.jsonl"
    store.write_text('{"caption_store": 1, "images": 1}\n{"id": "train-0-000000", "captions": ["a car"]}\n')
    (tmp_path / "sweep.yaml").write_text("axes: {schedule.power: [1.0, 0.9], model.timestep: [1, 2]}\n")
    text = experiment.read_text().replace("caption.precision", "schedule.power")
    experiment.write_text(text.replace("caption.recall", "model.timestep"))
    assert "no caption for 9 images: 'train-0-000001'" in said("caption.source=store", f"caption.store={store}")
    assert "there is no such folder or file" in said("model.weights=./stable-diffusion")
    assert "augment.crop=40: must be a multiple of 32" in said("augment.crop=40")
    assert "can be as small as 32 pixels" in said("augment.crop=64")
    experiment.write_text(experiment.read_text().replace("table:", "table:\n  metrics: [ap50]"))
    head = "model.head={kind: faster_rcnn, channels: 16, anchors: [8, 16, 32]}"
    assert "model.head.anchors=[8, 16, 32]: 3 sides for a backbone of 4 levels" in said("task=detection", head)


def test_a_missing_pocket_model_is_refused_with_the_command_that_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UserError,
        match=r"^runs/pocket_dit is missing; make it: tadp-ray pocket pretrain runs/pocket_dit "
        r"--backbone dit --start pocket --unet-steps 5000$",
    ):
        make_plan(ROOT / "experiments/backbones.yaml", "pocket")


def test_an_experiment_names_the_command_that_makes_what_it_needs(experiment: Path, tmp_path: Path) -> None:
    with experiment.open("a") as file:
        file.write(f"needs: {{{tmp_path}/mine: make mine, {tmp_path}/tokens/new.safetensors: make new}}\n")
    weights, token = f"model.weights={tmp_path}/mine", f"model.embeddings={tmp_path}/tokens/new.safetensors"
    with pytest.raises(UserError) as refused:
        make_plan(experiment, "pocket", overrides=[weights, token])
    assert str(refused.value).splitlines() == [
        f"{tmp_path}/mine is missing; make it: make mine",
        f"{tmp_path}/tokens/new.safetensors is missing; make it: make new",
    ]
    assert "is missing; make it: make mine" in make_plan(experiment, "pocket", overrides=[weights], dry=True).absent[0]
    assert make_plan(experiment, "pocket").cells, "what no cell reads is not needed"


def test_cells_that_are_left_out_need_nothing(experiment: Path, tmp_path: Path) -> None:
    """What a cell to be trained lacks is refused all the same, though one that is left out, before it, lacks it, too."""
    weights = f"{tmp_path}/mine"
    (tmp_path / "sweep.yaml").write_text(
        "axes:\n  caption.precision: [0.5, 1.0]\n"
        f"  caption.recall: {{whole: {{model.weights: {weights}}}, half: {{caption.recall: 0.5}}}}\n"
    )
    with pytest.raises(UserError, match=f"model.weights='{weights}': there is no such folder"):
        make_plan(experiment, "pocket")
    plan = make_plan(experiment, "pocket", only=["caption.recall=half"])
    assert [all_hashed(cell) for cell in plan.cells] == [False, True] * 2
    assert plan.selected == plan.cells[1::2] and not plan.absent
    plan.check(plan.selected)
    assert not make_plan(experiment, "pocket", only=["caption.recall=half"], dry=True).absent
    nowhere = [f"data={{kind: ade20k, root: {tmp_path}/ade}}", "augment={crop: 64}"]
    with pytest.raises(UserError, match=f"root='{tmp_path}/ade': there is no such folder"):
        make_plan(experiment, "pocket", only=["caption.recall=half"], overrides=nowhere)


@pytest.mark.slow
def test_a_learned_token_belongs_to_the_fingerprint_and_a_missing_one_to_the_command_that_makes_it(
    experiment: Path, tmp_path: Path
) -> None:
    sweep = """\
axes:
  caption.precision: {plain: {}, token: {model.embeddings: 'made/night_{caption.recall}/learned_embeds.safetensors',
    caption.modifiers: ['a <night> photo of {caption}']}}
  caption.recall: {a: {data.target_domain: night}, b: {data.target_domain: comic}}
"""
    (tmp_path / "sweep.yaml").write_text(sweep.replace("made/", f"{tmp_path}/made/"))
    (tmp_path / "personalization").mkdir()
    (tmp_path / "personalization/night_a.yaml").write_text("")
    with pytest.raises(
        UserError, match=r"night_a/learned_embeds.safetensors is missing; make it: tadp-ray personalize"
    ):
        make_plan(experiment, "pocket")
    for name, value in (("night_a", 0.0), ("night_b", 1.0)):
        (tmp_path / f"made/{name}").mkdir(parents=True)
        write_learned(
            tmp_path / f"made/{name}/learned_embeds.safetensors", LearnedToken("<night>", torch.full((64,), value))
        )
    before = make_plan(experiment, "pocket")
    assert [cell.recipe.data.target_domain for cell in before.cells] == ["night", "comic"] * 2
    before.check(before.selected)
    write_learned(tmp_path / "made/night_b/learned_embeds.safetensors", LearnedToken("<night>", torch.full((64,), 2.0)))
    after = make_plan(experiment, "pocket")
    changed = [old.fingerprint != new.fingerprint for old, new in zip(before.cells, after.cells, strict=True)]
    assert changed == [False, False, False, True]
    with pytest.raises(UserError, match="its token is '<night>', which no prompt says; add it to caption.modifiers"):
        recipe = after.cells[3].recipe.model_copy(update={"caption": before.cells[0].recipe.caption})
        check_setup(TrainSetup(recipe, 0))


def test_the_documented_experiments_and_no_others_accept_photographs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs/recipes.md").read_text().partition("These shipped experiments accept")[2].partition(".")[0]
    recipes = {name: shipped("recipes")[name] for name in ("folder_segmentation", "folder_depth", "folder_detection")}
    accepted = {"folder_segmentation"}
    for (recipe, file), (name, experiment) in itertools.product(recipes.items(), shipped("experiments").items()):
        with suppress(ConfigError):
            make_plan(experiment, "pocket", recipe=file, dry=True)
            assert recipe == "folder_segmentation"
            accepted.add(name)
    assert {*re.findall(r"`(\w+)`", text)} - {"recipe"} == accepted


def test_a_figure_is_asked_of_segmentation_only_before_anything_is_trained(experiment: Path, tmp_path: Path) -> None:
    with experiment.open("a") as file:
        file.write("figure: {title: T, kind: recall, published: {source: S5, r: 0.28}}\n")
    assert len(make_plan(experiment, "pocket").cells) == 4
    depth = (
        "task: depth\nmodel: {attention_maps: none, head: {kind: vpd_depth, fused: 32, channels: 16, max_depth: 80}}\n"
    )
    (tmp_path / "deep.yaml").write_text("extends: recipe.yaml\n" + depth)
    with pytest.raises(
        ConfigError, match="figure.kind=recall: needs segmentation, but .*deep.yaml is of depth; leave it out, or ask"
    ):
        make_plan(experiment, "pocket", recipe=tmp_path / "deep.yaml")
    experiment.write_text(experiment.read_text().replace("kind: recall", "knd: recall"))
    with pytest.raises(ConfigError, match="figure.knd='recall': unknown key; did you mean 'kind'"):
        make_plan(experiment, "pocket")


def finished_row(cell: Cell, seconds: float) -> CellRow:
    """A finished run of a cell, which took so long."""
    return CellRow(
        code={},
        run_id="run1",
        fingerprint=cell.fingerprint,
        experiment="tiny",
        scale="pocket",
        axes=cell.axes,
        seed=0,
        metrics={"seconds": seconds},
        status="FINISHED",
        error=None,
        commit=None,
        start_time=0,
        end_time=1,
        params=flatten(cell.recipe.model_dump(mode="json")),
        hardware="a laptop",
    )


def test_preview_tells_state_cost_and_time(experiment: Path) -> None:
    plan = make_plan(experiment, "pocket")
    cell = plan.cells[0]
    row = finished_row(cell, seconds=90)
    said = "\n".join(preview(plan, {cell.fingerprint: row}, [row], at_once=2).lines())
    assert "4 cells, 3 to train" in said and "finished, run run1" in said
    assert "GFLOP" in said and "activations" in said
    assert "about 0:03:00 for 3 cells, 0.07 core-hours; from 1 finished cell of 90 s (median) on a laptop" in said
    other = "\n".join(preview(plan, {}, [], at_once=1).lines())
    assert "time: unknown" in other and "1 CPU and 0 GPUs each; 1 cell at once" in other


@pytest.mark.parametrize(
    ("compute", "spent"),
    [
        ({}, "1.00 core-hours"),
        ({"num_train_workers": 2, "cpus": 3}, "6.00 core-hours"),
        ({"num_train_workers": 2, "cpus": 3, "gpus": 4}, "8.00 GPU-hours"),
        ({"num_train_workers": 1, "gpus": 0.5}, "0.50 GPU-hours"),
    ],
)
def test_hours_are_those_of_the_cores_or_gpus_of_all_workers(make_cell, compute: dict[str, float], spent: str) -> None:
    made = make_cell()
    recipe = made.recipe.model_copy(update={"compute": made.recipe.compute.model_copy(update=compute)})
    cell = made.model_copy(update={"recipe": recipe})
    assert estimate([cell], [finished_row(cell, seconds=3600)], at_once=1) == (
        f"time: about 1:00:00 for 1 cell, {spent}; from 1 finished cell of 3600 s (median) on a laptop"
    )


@pytest.mark.slow
def test_a_preview_counts_evaluations_with_other_captions(experiment: Path) -> None:
    """Five images of the size of a view, each without a backward pass, in steps of four images with one."""
    scored = "evaluation.captions={a: {source: 'null'}, b: {source: oracle}}"
    plan = make_plan(experiment, "pocket", overrides=[scored, "model.weights=pocket"])
    (line,) = [line for line in preview(plan, {}, [], at_once=2).lines() if line.startswith("after training")]
    assert line.startswith("after training: scoring 5 images with 2 other captions, each ")
    assert 0.2 < float(line.split()[-2]) < 0.5
    row = finished_row(plan.cells[0], seconds=90)
    assert "from 1 finished cell of" in estimate([plan.cells[0]], [row], 2)
    # As many other captions take as long, of whatever kind.
    for captions, known in (("{c: {source: 'null'}, d: {source: 'null'}}", True), ("{a: {source: 'null'}}", False)):
        again = make_plan(experiment, "pocket", overrides=["model.weights=pocket", f"evaluation.captions={captions}"])
        again = again.cells[0]
        assert ("from 1 finished cell of" in estimate([again], [row], 2)) == known


def test_further_captions_from_the_ground_truth_are_called_an_oracles(experiment: Path, tmp_path: Path) -> None:
    file = tmp_path / "said.jsonl"
    CaptionStore({f"val-0-{k:06}": ("a car",) for k in range(5)}, {"captioner": "oracle"}).write(file)
    others = (
        f"{{none: {{source: 'null'}}, half: {{source: oracle, recall: 0.5}}, said: {{source: store, store: {file}}}}}"
    )
    plan = plan_one(tmp_path / "recipe.yaml", ["caption={source: 'null'}", f"evaluation.captions={others}"], 0)
    (cell,) = plan.cells
    assert plan.oracle == (
        "oracle: the further captions half, said use the ground truth of the scored images (evaluation.captions)"
    )
    assert list(recipe_preview(cell.recipe))[1] == plan.oracle
    tags = cell_run_spec("parent", cell).tags
    assert (tags["tadp.oracle"], tags["tadp.oracle.evaluations"]) == ("false", '["half", "said"]')
    again = Cell.model_validate_json(cell.model_dump_json())  # as the plan that MLflow keeps
    assert [again.is_oracle(f"miou{name}") for name in ("", "/none", "/half", "/said")] == [False, False, True, True]
    told = plan_one(tmp_path / "recipe.yaml", [f"evaluation.captions={others}"], 0)
    assert told.oracle.splitlines()[0].startswith("oracle: the captions of all cells") and "\n" in told.oracle
    assert told.cells[0].is_oracle("miou/none")
    assert "tadp.oracle.evaluations" not in cell_run_spec("parent", make_plan(experiment, "pocket").cells[0]).tags
    file.unlink()
    with pytest.raises(UserError, match="said.jsonl is missing"):
        plan_one(tmp_path / "recipe.yaml", [f"evaluation.captions={others}"], 0)


def test_files_of_further_captions_have_absolute_paths(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    CaptionStore({f"val-0-{k:06}": ("a car",) for k in range(5)}).write(tmp_path / "said.jsonl")
    plan = plan_one(
        experiment.with_name("recipe.yaml"), ["evaluation.captions={a: {source: store, store: said.jsonl}}"], 0
    )
    assert plan.recipe.evaluation.captions["a"].store == tmp_path / "said.jsonl"
    assert plan.oracle.count("\n") == 0


def test_a_preview_refuses_weights_that_are_there_and_damaged(experiment: Path, tmp_path: Path) -> None:
    recipe = make_plan(experiment, "pocket").recipe
    (tmp_path / "weights/unet").mkdir(parents=True)
    cut = recipe.model_copy(update={"model": recipe.model.model_copy(update={"weights": str(tmp_path / "weights")})})
    with pytest.raises(UserError, match="weights lacks vae, text_encoder, tokenizer"):
        list(recipe_preview(cut))


def test_captions_that_are_not_there_are_named_with_the_commands_that_make_them(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    photographs = """\
data: {kind: pascal_segmentation, root: VOC}
caption: {source: store, store: captions/pascal_min40.jsonl}
model: {weights: pocket}
augment: {crop: 32}
schedule: {iterations: 6, learning_rate: 1e-3}
"""
    (tmp_path / "recipe.yaml").write_text(photographs)
    rows = "{a: {}, b: {caption: {source: 'null'}}, c: {caption.store: captions/pascal_min20.jsonl}}"
    (tmp_path / "sweep.yaml").write_text(f"axes: {{caption.precision: {rows}, caption.recall: {{x: {{}}}}}}\n")
    experiment.write_text(experiment.read_text().partition("  published")[0])
    with pytest.raises(UserError) as caught:
        make_plan(experiment, "pocket")
    made = "make it: tadp-ray caption blip pascal_segmentation --root VOC --min-tokens"
    for line, length in zip(str(caught.value).splitlines(), (20, 40), strict=True):
        assert line.startswith(
            f"captions/pascal_min{length}.jsonl is missing; {made} {length} --out captions/pascal_min"
        )
    with pytest.raises(UserError, match="captions/pascal_min40.jsonl is missing; make it: tadp-ray caption blip"):
        plan_one(tmp_path / "recipe.yaml", (), 0)


@pytest.mark.slow
def test_cells_told_ground_truth_names_are_called_an_oracles_before_training_and_in_mlflow(
    experiment: Path, tmp_path: Path
) -> None:
    plan = make_plan(experiment, "pocket")
    line = "oracle: the captions of all cells use the ground truth, also of the scored images (caption.source: oracle)"
    assert plan.oracle == line and line in list(preview(plan, {}, [], at_once=2).lines())
    assert {cell_run_spec("parent", cell).tags["tadp.oracle"] for cell in plan.cells} == {"true"}
    rows = "{a: {caption.source: 'null'}, b: {caption.source: template, data.target_domain: night}}"
    (tmp_path / "sweep.yaml").write_text(f"axes: {{caption.precision: {rows}, caption.recall: {{x: {{}}}}}}\n")
    experiment.write_text(experiment.read_text().partition("  published")[0])
    plan = make_plan(experiment, "pocket")
    assert (
        plan.oracle.startswith("oracle: the captions of 1 of 2 cells use")
        and "(caption.source: template)" in plan.oracle
    )
    assert [cell_run_spec("parent", cell).tags["tadp.oracle"] for cell in plan.cells] == ["false", "true"]
    assert make_plan(experiment, "pocket", only=["caption.precision=a"]).oracle is None
    (recipe,) = [cell.recipe for cell in plan.cells if cell.recipe.data.target_domain]
    assert list(recipe_preview(recipe))[1] == line.replace("all cells use", "the cell use").replace(
        ": oracle)", ": template)"
    )


def test_a_store_whose_header_says_oracle_makes_its_cells_an_oracles(experiment: Path, tmp_path: Path) -> None:
    ids = [f"train-0-{k:06}" for k in range(10)] + [f"val-0-{k:06}" for k in range(5)]
    stores = {"said.jsonl": {"captioner": "degraded oracle"}, "blip.jsonl": {"captioner": {"model": "blip"}}}
    for name, header in stores.items():
        CaptionStore(dict.fromkeys(ids, ("a car",)), header).write(tmp_path / name)

    def plan(name: str, target: str = "null") -> Plan:
        told = f"{{source: store, store: {tmp_path / name}, target_store: {target}}}"
        return plan_one(tmp_path / "recipe.yaml", [f"caption={told}"], 0)

    assert plan("said.jsonl").oracle.endswith("also of the scored images (caption.source: store)")
    assert plan("blip.jsonl").oracle is None
    assert plan("blip.jsonl", str(tmp_path / "said.jsonl")).cells[0].uses_ground_truth
    (cell,) = plan("said.jsonl").cells
    assert cell_run_spec("parent", cell).tags["tadp.oracle"] == "true"
    assert Cell.model_validate_json(cell.model_dump_json()).uses_ground_truth  # as the plan that MLflow keeps


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        (
            "miou/night",
            r".*/recipe.yaml has no evaluation.captions.night or data.extra_styles: \[night\]; add it, or ask",
        ),
        ("miou/multi_scale", ".*/recipe.yaml has no evaluation.multi_scale; add it"),
        (
            "rmse",
            "is of depth, but .*/recipe.yaml is of segmentation; ask without .*: tadp-ray sweep --recipe .*/recipe.yaml",
        ),
        ("iou/caar", "no cell ends with such a metric; did you mean 'iou/car'"),
    ],
)
def test_a_metric_that_cells_will_not_have_is_refused_before_anything_is_trained(
    experiment: Path, metric: str, said: str
) -> None:
    text = experiment.read_text()
    experiment.write_text(text.replace("table:", f"table:\n  metrics: ['{metric}']"))
    with pytest.raises(ConfigError, match=rf"tiny.yaml: table.metrics='{metric}': {said}"):
        make_plan(experiment, "pocket")
    known = "table:\n  metrics: [miou/night, iou/car, caption/val_precision]"
    experiment.write_text(
        text.replace("table:", known)
        .replace("[caption.recall]", "[caption.recall, metric]")
        .replace(text[text.index("  published") :], "")
    )
    assert make_plan(experiment, "pocket", overrides=["data.extra_styles=[night]"]).recipe.data.extra_styles == (
        "night",
    )


def test_the_metric_of_a_class_that_no_scored_image_shows_is_refused(
    experiment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment.write_text(experiment.read_text().replace("table:", "table:\n  metrics: ['iou/car']"))
    plan = make_plan(experiment, "pocket")
    files = FileDataset.__new__(FileDataset)
    monkeypatch.setattr(plan.datasets, "open", lambda *_: files)
    monkeypatch.setattr(Plan, "check", lambda *_: None)
    monkeypatch.setattr(FileDataset, "absent", lambda _: ["bus"])
    plan.check(plan.selected)
    monkeypatch.setattr(FileDataset, "absent", lambda _: ["bus", "car"])
    with pytest.raises(UserError, match=r"tiny.yaml: table.metrics='iou/car': no scored image .* shows car, so cells"):
        plan.check(plan.selected)


def test_train_and_sweep_plan_the_same_cell_of_the_same_scale(experiment: Path, tmp_path: Path) -> None:
    """Whatever the flag says: a scale is what a cell is trained on."""
    experiment.write_text(
        experiment.read_text().replace("{pocket: recipe.yaml}", "{pocket: recipe.yaml, paper: recipe.yaml}")
    )
    changes = ["caption.precision=0.5", "caption.recall=1.0"]
    alone = plan_one(tmp_path / "recipe.yaml", changes, seed=0)
    for scale in ("pocket", "paper"):
        swept = make_plan(experiment, scale, only=changes)
        assert swept.scale == scale
        for found in (swept, make_plan(experiment, scale, recipe=tmp_path / "recipe.yaml", only=changes)):
            (cell,) = found.selected
            assert cell.fingerprint == alone.cells[0].fingerprint
            assert cell.scale == alone.cells[0].scale == alone.scale == "pocket"
            assert found.table.scale == "pocket"
    assert "scale" not in alone.cells[0].model_dump()


@pytest.mark.parametrize(
    ("recipe", "scale"),
    [
        ("pocket_depth", "pocket"),
        ("camvid", "pocket"),
        ("folder_segmentation", "pocket"),
        ("ade20k", "paper"),
        ("pascal_to_comic", "paper"),
    ],
)
def test_scales_of_recipes(recipe: str, scale: str) -> None:
    """The pocket's world or its model makes the pocket scale; photographs and another model make the paper's."""
    assert load_recipe(ROOT / f"experiments/recipes/{recipe}.yaml").scale == scale
    other = load_recipe(ROOT / f"experiments/recipes/{recipe}.yaml", ["model.weights=stable-diffusion-v1-5"])
    assert other.scale == ("pocket" if recipe == "pocket_depth" else "paper")


def test_an_experiment_without_a_sweep_of_the_scale_says_so(experiment: Path, tmp_path: Path) -> None:
    experiment.write_text(experiment.read_text().replace("sweep: sweep.yaml", "sweep: {pocket: sweep.yaml}"))
    with pytest.raises(ConfigError, match="tiny.yaml: sweep: none for --scale paper; it has pocket"):
        make_plan(experiment, "paper", recipe=tmp_path / "recipe.yaml")


@pytest.mark.slow
def test_an_image_encoder_is_found_from_anywhere_and_counted_before_a_training(
    experiment: Path, tiny_vision: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_vision)
    told = ["caption.source=null", "model.context={sources: [{kind: image, encoder: clip}]}"]
    (cell,) = plan_one(tmp_path / "recipe.yaml", told, 0).cells
    assert cell.recipe.model.context.sources[0].encoder == str(tiny_vision / "clip")
    lines = list(recipe_preview(load_recipe(tmp_path / "recipe.yaml", told)))
    assert "context: image, 4 vectors" in lines
    assert any(line.startswith("context encoder") for line in lines)
    lost = ["caption.source=null", "model.context={sources: [{kind: image, encoder: lost}]}"]
    lines = list(recipe_preview(load_recipe(tmp_path / "recipe.yaml", lost)))
    assert any(
        line.startswith("context: counting a caption's instead, since model.context.sources.enc") for line in lines
    )


def test_paths_of_any_key_of_a_data_set_hold_in_every_folder() -> None:
    class Listed(StrictModel):
        kind: str
        table: ExpandedPath

    listed = load_recipe(shipped("recipes")["pocket_segmentation"]).model_copy(
        update={"data": Listed(kind="listed", table="images.csv")}
    )
    assert with_absolute_paths(listed).data.table == Path("images.csv").absolute()
