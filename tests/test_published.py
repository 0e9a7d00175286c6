"""Shipped experiments, recipes and personalizations against the paper's own numbers, which assets/published.toml holds."""

import hashlib
import math
import tomllib
from pathlib import Path

import pytest

from tadp_ray.captions.alignment import THRESHOLD
from tadp_ray.captions.templates import SINGLE, TEMPLATES
from tadp_ray.config.load import load_analysis, load_personalization, load_recipe
from tadp_ray.config.recipe import Recipe
from tadp_ray.config.resolve import load_experiment
from tadp_ray.data.datasets import class_names

ROOT = Path(__file__).resolve().parents[1]
FILES = ROOT / "experiments"
PAPER = tomllib.loads((ROOT / "tests/assets/published.toml").read_text())
CODE = PAPER["code"]


def printed(name: str) -> list[list[float]]:
    """What an experiment says that the paper prints, row by row, a dash as NaN."""
    values = load_experiment(FILES / f"{name}.yaml").experiment.table.published.values
    return [[math.nan if value is None else value for value in row] for row in values]


def test_table_s1() -> None:
    rows = load_experiment(FILES / "fast_schedule.yaml").sweep_at("paper")[1].values["method"]
    assert [*rows] == [*PAPER["table_s1"]]
    for row, own in zip(rows, printed("fast_schedule"), strict=True):
        assert own == pytest.approx(PAPER["table_s1"][row], abs=0, nan_ok=True), row


def test_table_s2() -> None:
    axes = load_experiment(FILES / "prec_recall.yaml").sweep_at("paper")[1].values
    assert [str(value) for value in axes["caption.precision"]] == [*PAPER["table_s2"]]
    assert list(axes["caption.recall"]) == [0.5, 0.75, 1.0]
    assert printed("prec_recall") == [*PAPER["table_s2"].values()]


def test_schedules_repeat_tables_s1_and_s2() -> None:
    s1, s2 = PAPER["table_s1"], PAPER["table_s2"]
    null, scaled = s1["VPD (null text)"], s1["VPD(LS)"]
    wanted = [[null[0], null[2], math.nan], [scaled[0], scaled[2], math.nan], [s2["1.0"][2], math.nan, math.nan]]
    for own, row in zip(printed("schedules"), wanted, strict=True):
        assert own == pytest.approx(row, abs=0, nan_ok=True)


@pytest.mark.parametrize("name", ["noise_timesteps", "layers"])
def test_of_noise_timesteps_and_layers_the_paper_prints_its_own_choice_alone(name: str) -> None:
    """Which is right and whole oracle captions at timestep 1, and the cell of that place has these keys."""
    kept = [(row, place) for row, line in enumerate(printed(name)) for place, v in enumerate(line) if not math.isnan(v)]
    assert [printed(name)[row][place] for row, place in kept] == [PAPER["table_s2"]["1.0"][2]]
    experiment = load_experiment(FILES / f"{name}.yaml")
    sweep, (row, place) = experiment.sweep_at("paper")[1], kept[0]
    rows, columns = (
        sweep.values[axis] for axis in (*experiment.experiment.table.rows, *experiment.experiment.table.columns)
    )
    point = dict(zip(sweep.axes, (rows[row], columns[place]), strict=True))
    recipe = load_recipe(FILES / "recipes/ade20k_fast_4k_oracle.yaml").model_dump()
    for key, value in sweep.changes(point).items():
        group, _, inner = key.partition(".")
        assert recipe[group][inner] == value


@pytest.mark.parametrize(("name", "figure"), [("recall_analysis", "figure_s5"), ("object_size", "figure_s6")])
def test_figures_s5_and_s6(name: str, figure: str) -> None:
    assert load_experiment(FILES / f"{name}.yaml").experiment.figure.published.r == PAPER[figure]["r"]
    assert THRESHOLD == PAPER["figure_s5"]["cosine"]


def test_figures_s1_and_s2() -> None:
    spec, paper = load_analysis(FILES / "analyses/image_variation.yaml", "paper").spec, PAPER["figure_s1"]
    assert (spec.steps[0], spec.steps[-1], spec.num_inference_steps) == (
        paper["steps_first"],
        paper["steps_last"],
        paper["steps_of"],
    )
    recipe = load_recipe(FILES / "recipes/pascal_segmentation.yaml")
    assert " ".join(class_names(recipe.data)) == paper["prompt"]
    assert load_analysis(FILES / "analyses/copy_paste.yaml", "paper").spec.pairs == PAPER["figure_s2"]["pairs"]


def test_figure_s3_s_templates() -> None:
    assert len(set(TEMPLATES)) == len(TEMPLATES) == PAPER["figure_s3"]["templates"]
    content = "\n".join(sorted(TEMPLATES)).encode()
    assert hashlib.sha256(content).hexdigest() == "a8a4822f2921936e2ef07cf2e7a5df69be9532aab2f3f4880156bb03563e2467"
    spots = {
        "itap of my {}.",
        "a jpeg corrupted photo of the {}.",
        "a embroidered {}.",
        "the {} in a video game.",
        "art of a {}.",
    }
    assert spots < {*TEMPLATES}
    assert SINGLE.rstrip(".").format("{class name}") == PAPER["figure_s3"]["single"] and SINGLE in TEMPLATES


def schedule_of(recipe: Recipe) -> dict[str, float]:
    """The numbers of a recipe that the tables print."""
    keys = ("learning_rate", "batch_size", "weight_decay", "warmup_iterations", "backbone_lr_mult", "iterations")
    return {key: getattr(recipe.schedule, key) for key in keys}


ADE = {"batch_size": CODE["ade_gpus_times_batch"], "backbone_lr_mult": CODE["ade_unet_scale"]}
CROSS = {"weight_decay": CODE["cross_weight_decay"], "backbone_lr_mult": CODE["ade_unet_scale"]}


@pytest.mark.parametrize(
    ("name", "table", "code"),
    [
        ("ade20k", PAPER["table_s3"]["a"], ADE),
        ("ade20k_fast_8k", PAPER["table_s3"]["b"], ADE),
        ("ade20k_fast_4k", PAPER["table_s3"]["c"], ADE),
        ("ade20k_fast_4k_oracle", PAPER["table_s3"]["c"], ADE),
        ("cityscapes_to_dark_zurich", PAPER["table_s4"]["a"], CROSS),
        ("cityscapes_to_nighttime", PAPER["table_s4"]["a"], CROSS),
    ],
)
def test_recipes_of_iterations(name: str, table: dict, code: dict) -> None:
    """As printed, but for what the published code does otherwise, which the recipe's head tells."""
    assert schedule_of(load_recipe(FILES / f"recipes/{name}.yaml")) == table | code


@pytest.mark.parametrize(
    ("name", "table", "batch", "images", "scale"),
    [
        ("nyuv2", PAPER["table_s3"]["d"], CODE["nyu_gpus_times_batch"], CODE["nyu_images"], CODE["nyu_unet_scale"]),
        (
            "nyuv2_fast",
            PAPER["table_s3"]["e"],
            CODE["nyu_gpus_times_batch"],
            CODE["nyu_images"],
            CODE["nyu_unet_scale"],
        ),
        ("pascal_segmentation", PAPER["table_s3"]["f"], 2 * 4, CODE["pascal_images"], CODE["pascal_unet_scale"]),
        ("pascal_detection", PAPER["table_s4"]["b"], 2, CODE["voc_0712_images"], CODE["pascal_unet_scale"]),
        ("pascal_to_watercolor", PAPER["table_s4"]["b"], 2, CODE["voc_0712_images"], CODE["pascal_unet_scale"]),
        ("pascal_to_comic", PAPER["table_s4"]["b"], 2, CODE["voc_0712_images"], CODE["pascal_unet_scale"]),
    ],
)
def test_recipes_of_epochs(name: str, table: dict, batch: int, images: int, scale: float) -> None:
    """An epoch drops no image or less than a batch of them."""
    recipe = load_recipe(FILES / f"recipes/{name}.yaml")
    own = schedule_of(recipe)
    assert (own["learning_rate"], own["weight_decay"]) == (table["learning_rate"], table["weight_decay"])
    assert (own["batch_size"], own["backbone_lr_mult"]) == (batch, scale)
    assert own["iterations"] / table["epochs"] == pytest.approx(images / batch, abs=1)
    if "accumulation" in table:
        assert recipe.schedule.micro_batch == table["batch_size"] == own["batch_size"] / table["accumulation"]


def test_nyuv2_falls_to_the_codes_lowest_rate() -> None:
    assert load_recipe(FILES / "recipes/nyuv2.yaml").schedule.min_lr == CODE["nyu_lowest"]


@pytest.mark.parametrize("name", ["watercolor", "comic", "night"])
def test_personalizations(name: str) -> None:
    """Table S4 (c) and (d); what section D.1 says of images, and of night's steps."""
    token, model = (
        load_personalization(FILES / f"personalization/{kind}_{name}.yaml") for kind in ("token", "dreambooth")
    )
    c, d, said = PAPER["table_s4"]["c"], PAPER["table_s4"]["d"], PAPER["section_d1"]
    place = "night" if name == "night" else "art"
    assert token.images.count == model.images.count == said[f"images_{place}"]
    assert (token.schedule.iterations, token.schedule.learning_rate) == (d["iterations"], d["learning_rate"])
    assert token.schedule.micro_batch == d["batch_size"]
    assert token.schedule.batch_size == d["batch_size"] * d["accumulation"]
    assert model.schedule.learning_rate == c["learning_rate"]
    assert model.schedule.iterations == said[f"dreambooth_steps_{place}"]
    assert said["dreambooth_steps_art"] == c["iterations"]
