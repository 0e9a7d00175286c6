"""What a dry run says: without data and weights, of every kind of cell, in hours and in dollars."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from tadp_ray.config.load import load_recipe
from tadp_ray.errors import UserError
from tadp_ray.hub import cached_only
from tadp_ray.sweep import cluster
from tadp_ray.sweep.disk import DiskUse, disk_use
from tadp_ray.sweep.kinds import CellKind, kinds_of, lower_memory, planned_cost
from tadp_ray.sweep.preview import preview, recipe_preview
from tadp_ray.sweep.throughput import COMPILED, MEASURED, STEP_FLOPS, Card, known_cards, measured_card
from tadp_ray.sweep.times import CardHours, card_hours, finished_after, hours_lines
from tadp_ray.training.digests import all_hashed
from tadp_ray.training.step_cost import StepCost
from tests.fixtures.cells import make_plan
from tests.fixtures.cli import invoke

ROOT = Path(__file__).resolve().parents[2]
PAPER = ROOT / "experiments/prec_recall.yaml"


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Changes to a recipe of the paper by which its data and weights are missing."""
    monkeypatch.chdir(tmp_path)
    return [f"data.root={tmp_path}/ade", f"model.weights={tmp_path}/sd15"]


@pytest.mark.slow
def test_the_paper_s_sweep_is_planned_without_its_data_and_weights(nowhere: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ade"):
        make_plan(PAPER, "paper", overrides=nowhere)
    plan = make_plan(PAPER, "paper", overrides=nowhere, dry=True)
    assert len({cell.fingerprint for cell in plan.cells}) == 9 and not any(map(all_hashed, plan.cells))
    data, weights = plan.absent
    assert f"root='{tmp_path}/ade': there is no such folder" in data
    assert f"model.weights='{tmp_path}/sd15': there is no such folder or file" in weights
    found = preview(plan, {}, [], 0, "2 CPUs, 0 GPUs", known_cards(), price=2.5)
    said = list(found.lines())
    assert said[0].endswith("9 cells, 0 to train, 9 not known whether finished")
    assert [line for line in said if line.startswith("missing: ")] == [f"missing: {text}" for text in plan.absent]
    assert sum(line.endswith("not known whether finished, since something it reads is missing") for line in said) == 9
    assert any(line.endswith("no cell fits here, on 2 CPUs, 0 GPUs") for line in said)
    assert any("using the sizes of Stable Diffusion 1.5" in line for line in said)
    h200, h100 = found.cards
    # A step of the recipe took 733 ms on an H200 in TF32; the roofline of an H100 is 282 ms, that of an H200 240 ms.
    assert h200.hours == pytest.approx(9 * 4000 * 0.733 / 3600, rel=0.01)
    assert h100.hours == pytest.approx(h200.hours * 282 / 240)
    assert h200.source.startswith("measured") and h100.source.startswith("predicted, 33% of the roofline")
    assert h200.dollars == pytest.approx(2.5 * h200.hours) and h200.fits and h100.fits
    assert "schedule.micro_batch=8" in found.record()["memory_keys"]
    assert found.disk.training == pytest.approx(34.8e9, rel=0.02) and found.disk.finished == found.disk.training / 5
    # Nothing fits here, so the cells train one after another.
    assert found.disk.most == 8 * found.disk.finished + found.disk.training == found.record()["disk"]["most"]
    (line,) = (line for line in said if line.startswith("disk: "))
    assert line.startswith(
        "disk: a cell up to 32.3 GiB while it trains and 6.5 GiB when it is finished, 9 cells up to 84.0 GiB"
    )


@pytest.mark.slow
def test_missing_class_embeddings_are_told_beside_missing_weights(nowhere: list[str], tmp_path: Path) -> None:
    """Table S1's rows of VPD read the published file."""
    plan = make_plan(
        ROOT / "experiments/fast_schedule.yaml", "paper", overrides=nowhere, only=["method=VPD(LS)"], dry=True
    )
    data, weights, embeddings = (text for text in plan.absent if "is missing; make it" not in text)
    assert "root=" in data and "model.weights=" in weights
    file = tmp_path / "captions/ade_class_embeddings.pth"
    assert embeddings.startswith(
        f"caption.embeddings='{file}': there is no such file; bring the published one, or make"
    )


@pytest.mark.slow
def test_only_what_lacks_a_hash_is_not_known_to_be_finished(experiment: Path, tmp_path: Path) -> None:
    """Of captions from a store that is missing and from the ground truth, the latter's cells have their fingerprints."""
    (tmp_path / "sweep.yaml").write_text(
        "axes:\n  caption.precision: [1.0]\n  caption.recall: [1.0]\n"
        f"  text: {{oracle: {{}}, blip: {{caption.source: store, caption.store: {tmp_path}/said.jsonl}}}}\n"
    )
    rows = "rows: [caption.precision, text]"
    experiment.write_text(
        experiment.read_text().replace("rows: [caption.precision]", rows).replace("\n  published:", "\n#")
    )
    plan = make_plan(experiment, "pocket", dry=True)
    assert [all_hashed(cell) for cell in plan.cells] == [True, False]
    (problem,) = plan.absent
    assert problem.startswith(f"{tmp_path}/said.jsonl is missing; ")
    found = preview(plan, {}, [], 2)
    assert [(cell["selected"], cell["finished"]) for cell in found.record()["cells"]] == [(True, False), (True, None)]
    assert "2 cells, 1 to train, 1 not known whether finished" in next(found.lines())
    assert found.record()["cells"][1]["fingerprint"] is None
    known = make_plan(experiment, "pocket", only=["text=oracle"], dry=True)
    assert known.cells[0].fingerprint == plan.cells[0].fingerprint


def test_data_that_are_there_and_wrong_are_refused_in_a_plan_too(nowhere: list[str], tmp_path: Path) -> None:
    (tmp_path / "ade/images").mkdir(parents=True)
    with pytest.raises(UserError, match="does not hold"):
        make_plan(PAPER, "paper", overrides=nowhere, dry=True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            "augment.crop=160",
            "^weights: .*sizes of Stable Diffusion 1.5; augment.crop=160: must be a multiple of 64, .*; try 128$",
        ),
        ("augment={stretch: 48, flip: 0}", "augment.stretch=48: must be a multiple of 64, .*; try 64"),
        ("data={kind: scenes, train: 4, val: 4, size: 96}", "data.size=96: must be a multiple of 64, .*; try 64"),
    ],
)
def test_a_view_that_the_backbone_cannot_halve_is_refused_without_weights(
    experiment: Path, tmp_path: Path, change: str, said: str
) -> None:
    overrides = [f"model.weights={tmp_path}/sd15", "augment={}", change]
    with pytest.raises(UserError, match=said):
        preview(make_plan(experiment, "pocket", overrides=overrides, dry=True), {}, [], 2)
    with pytest.raises(UserError, match=said):
        list(recipe_preview(load_recipe(experiment.with_name("recipe.yaml"), overrides)))


@pytest.fixture
def trained_dry(experiment: Path) -> Callable[..., tuple[int, str]]:
    """`trained_dry("key=value")`: exit code of `train --dry-run` of the experiment's recipe, and what it prints, on one line."""

    def say(*overrides: str) -> tuple[int, str]:
        words = [word for text in overrides for word in ("--set", text)]
        done = invoke("train", experiment.with_name("recipe.yaml"), "--dry-run", *words)
        return done.exit_code, " ".join(done.output.split())

    return say


def test_a_dry_training_refuses_what_the_training_would(trained_dry: Callable, tmp_path: Path) -> None:
    code, said = trained_dry("caption.precision=0.01")
    assert code == 2 and "precision 0.01 needs" in said
    code, said = trained_dry("augment.crop=40")
    assert code == 2 and "augment.crop=40: must be a multiple of 32" in said
    split = "{images: imgs/*, masks: masks/*}"
    data = f"data={{kind: folder, root: {tmp_path}, train: {split}, val: {split}, classes: [a, b]}}"
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images/a.png"), np.zeros((64, 64, 3), np.uint8))
    code, said = trained_dry(data, "augment={crop: 64}")
    assert code == 2 and "data.train.images='imgs/*'" in said
    code, said = trained_dry()
    assert code == 0 and "missing" not in said and "GFLOP" in said


@pytest.mark.slow
def test_a_dry_training_names_what_is_missing_and_goes_on(trained_dry: Callable, tmp_path: Path) -> None:
    told = ["caption={source: store, store: said.jsonl}", f"model.weights={tmp_path}/sd15", "augment={crop: 64}"]
    code, said = trained_dry(*told, f"data={{kind: ade20k, root: {tmp_path}/ade}}")
    assert code == 0 and "GFLOP" in said
    assert "missing: said.jsonl is missing; make it: tadp-ray caption blip" in said
    assert f"root='{tmp_path}/ade': there is no such folder" in said
    assert f"missing: model.weights='{tmp_path}/sd15': there is no such folder or file" in said
    assert f"relative paths are looked for in {tmp_path}" in said


def vary(experiment: Path, axis: str) -> None:
    """Replace the experiment's recall by another axis."""
    sweep = experiment.with_name("sweep.yaml")
    sweep.write_text(f"axes: {{caption.precision: [0.5, 1.0], {axis}}}\n")
    text = experiment.read_text().replace("caption.recall", axis.partition(":")[0])
    experiment.write_text(text.replace("\n  published:", "\n#"))


@pytest.mark.slow
def test_every_kind_of_cell_is_counted_and_named(experiment: Path) -> None:
    vary(experiment, "model.head.channels: [16, 32]")
    found = preview(make_plan(experiment, "pocket", overrides=["compute.gpus=0.5"]), {}, [], 2)
    small, large = found.kinds
    assert [len(kind.cells) for kind in found.kinds] == [2, 2]
    assert large.cost.flops > small.cost.flops and large.cost.memory_bytes > small.cost.memory_bytes
    said = list(found.lines())
    assert "2 kinds of cells:" in said
    assert f"{large.cost.flops / 1e9:,.1f}" in said[said.index("2 kinds of cells:") + 3]
    assert [kind["step_flops"] for kind in found.record()["kinds"]] == [small.cost.flops, large.cost.flops]
    # Hours are those of each cell's own kind.
    hours, h100 = card_hours(list(found.todo), found.kinds, known_cards(), None)
    assert hours.source.startswith("extrapolated by operations from a step of Stable Diffusion 1.5 with 16 images")
    assert "it takes longer" in hours.source and h100.source.startswith("predicted")
    flops = 6 * 2 * (small.cost.flops + large.cost.flops)
    assert hours.hours == pytest.approx(flops / known_cards()[0].speeds["float32"].flops / 3600)


@pytest.mark.slow
def test_cells_that_cost_the_same_are_one_kind(experiment: Path) -> None:
    vary(experiment, "model.timestep: [1, 50]")
    (kind,) = kinds_of(make_plan(experiment, "pocket"))
    assert len(kind.cells) == 4


@pytest.mark.slow
def test_the_keys_that_lower_memory_are_those_that_a_recipe_can_take(experiment: Path) -> None:
    kinds = kinds_of(make_plan(experiment, "pocket"))
    assert [*lower_memory(kinds)] == [
        "compute.gradient_checkpointing=true",
        "schedule.micro_batch=2",
        "model.trainable=lora",
    ]
    least = ["compute.gradient_checkpointing=true", "schedule.micro_batch=2", "model.trainable=frozen"]
    assert lower_memory(kinds_of(make_plan(experiment, "pocket", overrides=least))) == {}


@pytest.mark.parametrize(("seconds", "at_once", "end"), [([90, 90, 90], 2, 180), ([3, 1, 1], 2, 3), ([5, 7], 1, 12)])
def test_cells_wait_for_a_slot(seconds: list[float], at_once: int, end: float) -> None:
    assert finished_after(seconds, at_once) == end


@pytest.mark.parametrize(("at_once", "most"), [(0, 52), (1, 52), (2, 60)])
def test_the_largest_cells_may_be_the_last_to_train(at_once: int, most: int) -> None:
    cells = [SimpleNamespace(fingerprint=name) for name in ("large", "small")]
    sizes = (SimpleNamespace(training_disk_bytes=size, finished_disk_bytes=size // 5) for size in (50, 10))
    kinds = [SimpleNamespace(cells=[cell], cost=cost) for cell, cost in zip(cells, sizes, strict=True)]
    assert disk_use(cells, kinds, at_once, None) == DiskUse(2, training=50, finished=10, most=most, free=None)
    assert disk_use([], kinds, at_once, None) is None


@pytest.fixture
def hours_of(experiment: Path) -> Callable[..., list[CardHours]]:
    """`hours_of(cards, "key=value")`: what a plan says of cards for cells whose counted memory is that of the measured step."""

    def hours(cards: list[Card], *overrides: str) -> list[CardHours]:
        todo = make_plan(experiment, "pocket", overrides=["compute.gpus=1", *overrides], dry=True).cells
        counted = {"state_bytes": 0, "frozen_bytes": 0, "activation_bytes": round(44.6 * 2**30)}
        cost = StepCost(parts=(), groups=(), images=16, **counted)
        return list(card_hours(todo, [CellKind(tuple(todo), cost)], cards, None))

    return hours


def test_a_worker_fits_by_the_memory_that_was_measured_not_by_what_is_counted(hours_of: Callable) -> None:
    """A step that takes 79.4 GiB in float32 has no room in an H100, though 44.6 are counted; in TF32 it takes 49.4."""
    h200, h100 = hours_of(known_cards(), "schedule.precision=float32")
    assert (h200.fits, h100.fits) == (True, False)
    assert h100.needed_gib == pytest.approx(79.4)
    *_, line = hours_lines([h200, h100], 0)
    assert line.endswith("; its memory is too small: about 79.4 GiB are needed")
    assert [own.fits for own in hours_of(known_cards(), "schedule.precision=tf32")] == [True, True]
    shared = hours_of(known_cards(), "schedule.precision=tf32", "compute.gpus=0.5")
    assert [own.fits for own in shared] == [True, False] and shared[1].needed_gib == pytest.approx(98.8)
    # What it saves is not counted.
    recomputed = hours_of(known_cards(), "schedule.precision=float32", "compute.gradient_checkpointing=true")
    assert [own.fits for own in recomputed] == [True, None]


def test_whether_a_worker_fits_is_not_known_of_memory_that_was_not_measured(hours_of: Callable, tmp_path: Path) -> None:
    rows = [
        {"name": "tf32", "images": 8, "step_s": 0.5, "memory_gib": 30.0},
        {"name": "float32, strict", "images": 16, "step_s": 2.0, "memory_gib": 70.0},
    ]
    file = tmp_path / "gpu.json"
    found = {"machine": {"card": "NVIDIA H100"}, "full_size": {"rows": rows, "flops": 58e12}}
    file.write_text(json.dumps(found))
    (few,) = hours_of([measured_card(file)], "schedule.precision=tf32")
    assert (few.needed_gib, few.fits) == (None, None)
    assert [*hours_lines([few], 0)][-1].endswith("; whether its memory suffices is not known")
    (own,) = hours_of([measured_card(file)], "schedule.precision=float32")
    assert own.needed_gib == pytest.approx(70) and own.fits


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "ways"), [("tf32", ("float32", "tf32")), ("bfloat16", ("bfloat16", COMPILED))])
def test_the_measured_step_s_count_is_a_dry_run_s(nowhere: list[str], precision: str, ways: tuple[str, ...]) -> None:
    changes = [*nowhere, f"schedule.precision={precision}", "compute.num_train_workers=1"]
    cost, _ = planned_cost(load_recipe(ROOT / "experiments/recipes/ade20k_fast_4k_oracle.yaml", changes))
    assert cost.flops == pytest.approx(STEP_FLOPS, rel=0.001)
    (encoder,) = (part for part in cost.parts if part.name == "text encoder")
    for way in ways:
        assert (cost.memory_bytes + 4 * encoder.parameters) / 2**30 == pytest.approx(
            MEASURED[way].counted_gib, abs=0.05
        )


def test_a_card_s_speed_is_read_from_what_the_benchmark_has_measured(tmp_path: Path) -> None:
    file = tmp_path / "gpu.json"
    rows = [{"name": "tf32", "images": 8, "step_s": 0.5}, {"name": "float32, strict", "failed": "out of memory"}]
    found = {"machine": {"card": "NVIDIA H100 80GB HBM3"}, "full_size": {"rows": rows, "flops": 58e12}}
    file.write_text(json.dumps(found))
    card = measured_card(file)
    assert (card.name, card.memory_gib, [*card.speeds]) == ("NVIDIA H100 80GB HBM3", 78, ["tf32"])
    assert card.speeds["tf32"].flops == 58.2e12 and "with 8 images in tf32" in card.speeds["tf32"].source
    assert card.speeds["tf32"].source_of(29.1e12).startswith("measured, a step of Stable Diffusion 1.5 with 8 images")
    assert (
        card.speeds["tf32"].source_of(58.2e12).startswith("extrapolated by operations from a step of Stable Diffusion")
    )
    file.write_text(json.dumps({**found, "full_size": {"rows": rows, "flops": 1e10}}))
    with pytest.raises(UserError, match="of --small"):
        measured_card(file)
    instant = json.dumps({**found, "full_size": {"rows": [{**rows[0], "step_s": 0}], "flops": 58e12}})
    for text in ("{}", "[]", '"machine"', instant):
        file.write_text(text)
        with pytest.raises(UserError, match="--measured .*gpu.json: not the gpu.json that benchmarks/gpu.py writes"):
            measured_card(file)


def test_a_plan_downloads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from tadp_ray import hub

    asked = []
    monkeypatch.setattr(hub, "snapshot_download", lambda name, **given: asked.append(given["local_files_only"]) or "/")
    with cached_only():
        hub.from_hub("a/b", [], "", "")
    hub.from_hub("a/b", [], "", "")
    assert asked == [True, False]


@pytest.mark.slow
def test_a_dry_run_prints_its_numbers_as_json(
    nowhere: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "fitting_cells", lambda address, compute: (0, "2 CPUs, 0 GPUs"))
    changes = [word for change in nowhere for word in ("--set", change)]
    words = ["sweep", str(PAPER), "--scale", "paper", *changes, "--tracking-uri", f"sqlite:///{tmp_path}/none.db"]
    done = invoke(*words, "--dry-run", "--price", "2", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert len(found["cells"]) == 9 and len(found["missing"]) == 2 and found["cells_at_once"] == 0
    assert found["gpu_hours"][0]["dollars"] == pytest.approx(2 * found["gpu_hours"][0]["hours"])
    refused = invoke(*words, "--price", "2")
    assert refused.exit_code == 2 and "--price belongs to --dry-run" in refused.stderr
