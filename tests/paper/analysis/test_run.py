"""Every analysis runs at a small size, tells MLflow, and says what is missing; its figures are what they are called."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tadp_ray.backbones.stable_diffusion.load import load_diffusion
from tadp_ray.config.analysis import CopyPaste, EOSTokens, OffTarget, Variation
from tadp_ray.config.claims import Verdict
from tadp_ray.config.data import CaptionConfig
from tadp_ray.config.load import load_recipe
from tadp_ray.data.datasets import Datasets
from tadp_ray.data.scenes import CLASSES, LOOK_ALIKES, render
from tadp_ray.errors import UserError
from tadp_ray.paper.analysis.copy_paste import DENSITY, SHARE, Case, make_cases, measured
from tadp_ray.paper.analysis.eos_tokens import measures as eos_measures
from tadp_ray.paper.analysis.finding import Trained, standard_error
from tadp_ray.paper.analysis.images import analysis_images
from tadp_ray.paper.analysis.off_target import compared, off_target, strongest
from tadp_ray.paper.analysis.off_target import measures as seed_measures
from tadp_ray.paper.analysis.trained import load_segmenter
from tadp_ray.paper.analysis.variation import PROMPTS, measures
from tadp_ray.sweep.planning import plan_one
from tadp_ray.training.run import train_cell
from tadp_ray.training.setup import Cache
from tests.fixtures.cli import invoke

RECIPE = Path(__file__).resolve().parents[3] / "experiments/recipes/pocket_segmentation.yaml"
TEXTS = (
    "{averaged: {caption.source: class_names, caption.encoding: class_embeddings},"
    " single: {caption.source: class_names, caption.encoding: class_embeddings, caption.templates: single},"
    " words: {caption.source: class_names}}"
)


def run(tmp_path: Path, store, spec: str, *flags: object, recipe: Path = RECIPE, claims: tuple[str, ...] = ()):
    """Answer an analysis, of the pocket scenes if nothing else is said; each of these measures is claimed to be above 0."""
    file = tmp_path / "mine.yaml"
    asked = "".join(f"  - {{kind: measure, text: much, measure: {name}, above: 0}}\n" for name in claims)
    file.write_text(
        f"question: Why?\nfigure: Figure S0\nrecipes: {{pocket: {recipe}}}\nspec: {spec}\n"
        + (f"claims:\n{asked}" if claims else "")
    )
    words = ["analyze", "run", file, "--tracking-uri", store.uri, "--storage", tmp_path / "out", *flags]
    return invoke(*words)


@pytest.mark.slow
@pytest.mark.parametrize(
    "spec",
    [
        "{kind: variation, images: 2, steps: [1, 2], num_inference_steps: 2}",
        f"{{kind: eos_tokens, images: 3, texts: {TEXTS}}}",
    ],
    ids=["variation", "eos_tokens"],
)
def test_an_analysis_runs_on_a_gpu(spec: str, tmp_path: Path, store, gpu: torch.device) -> None:
    """A pretended one."""
    result = run(tmp_path, store, spec, "--set", "compute.gpus=1")
    assert result.exit_code == 0, result.output


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "number", "picture", "kind"),
    [
        ("{kind: copy_paste, cases: 3}", "moved: percent of cases", "copy_paste.pdf", CopyPaste),
        (
            "{kind: variation, images: 2, steps: [1, 2], num_inference_steps: 4}",
            "a caption, 2 steps: percent off target",
            "panels.png",
            Variation,
        ),
        (f"{{kind: eos_tokens, images: 3, texts: {TEXTS}}}", "averaged: diffuseness", "eos_tokens.png", EOSTokens),
    ],
)
def test_an_analysis_is_told_on_disk_and_in_mlflow(
    spec: str, number: str, picture: str, kind: type, tmp_path: Path, store
) -> None:
    result = run(tmp_path, store, spec, claims=kind.measures)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "out/mine/finding.json").read_text())
    assert found["name"] == "mine" and found["figure_of_paper"] == "Figure S0" and found["question"] == "Why?"
    assert np.isfinite(found["numbers"][number]) and picture in found["pictures"]
    assert all((tmp_path / "out/mine" / name).is_file() for name in found["pictures"])
    judged = [Verdict(**claim) for claim in found["claims"]]
    assert len(judged) == len(kind.measures) and all(own.sentence in result.stdout for own in judged)
    logged = store.client.get_run(found["run_id"])
    assert logged.info.status == "FINISHED" and len(logged.data.metrics) == len(found["numbers"])
    assert logged.data.tags["tadp.finding"] == "mine"
    files = {file.path for file in store.client.list_artifacts(found["run_id"])}
    assert {"finding.json", *found["pictures"]} <= files
    if "eos_tokens" in spec:
        assert found["claims"][-1]["holds"] is None and len(found["notes"]) == 3
        assert "tadp-ray train" in found["notes"][0] and "--seed 0" in found["notes"][0]


def test_words_are_held_against_the_better_eos_tokens_seed_by_seed() -> None:
    rows = {text: [{"diffuseness": 0.5}] * 2 for text in ("words", "averaged", "single")}
    scores = {"words": {0: 30.0, 1: 32.0, 2: 37.0}, "averaged": {0: 1.0}, "single": {2: 31.0, 1: 30.0, 3: 90.0}}
    ahead = eos_measures(rows, scores)["words ahead"]
    assert (ahead.value, ahead.count, ahead.by_seed) == (4.0, 2, (6.0, 2.0))
    for lacking in scores:
        assert "words ahead" not in eos_measures(rows, {**scores, lacking: {}})


def test_a_store_without_the_trainings_says_what_makes_them(tmp_path: Path, store) -> None:
    result = run(tmp_path, store, "{kind: off_target}", "--set", f"compute.storage={tmp_path}/runs")
    assert result.exit_code == 2, result.output
    assert "MLflow holds 0 of 1 training; these fill it:" in result.stderr
    assert f"tadp-ray train {RECIPE} --set compute.storage={tmp_path}/runs --seed 0" in result.stderr
    assert "unknown key; did you mean 'cases'?" in run(tmp_path, store, "{kind: copy_paste, case: 3}").stderr


def test_what_is_pasted_is_a_look_alike_that_is_not_there_and_covers_little() -> None:
    recipe, diffusion = load_recipe(RECIPE), load_diffusion("pocket")
    cases = list(make_cases(CopyPaste(kind="copy_paste", cases=8), analysis_images(recipe, 0, 40), diffusion))
    assert len(cases) >= 8
    for case in cases:
        assert case.word in LOOK_ALIKES[case.other] and case.prompt.split().count(case.word) == 1
        assert case.other in case.prompt.split() and not (case.pasted & case.look_alike).any()
        changed = (case.before != case.after).any(axis=2)
        assert changed.any() and not (changed & ~case.pasted).any()


def test_a_map_that_moves_is_seen_to_move() -> None:
    there = np.zeros((4, 6), bool)
    there[:2, :2] = True
    case = Case(*[np.zeros((4, 6, 3), np.uint8)] * 2, ("cat", "dog"), "cat", there, there[::-1, ::-1])
    figures = measured(case, there.astype(float), there[::-1, ::-1].astype(float))
    assert figures[f"look-alike before: {DENSITY}"] == figures[f"thing after: {DENSITY}"] == pytest.approx(6)
    assert figures[f"look-alike after: {DENSITY}"] == figures[f"thing before: {DENSITY}"] == 0
    assert figures[f"look-alike before: {SHARE}"] == figures[f"thing after: {SHARE}"] == 1


def test_names_that_mislead_raise_their_look_alikes() -> None:
    """Two classes that look alike and two others; all names move a tenth of a cat's pixels to dog, and nothing else."""
    classes, alike = ("sky", "cat", "dog", "bus"), {"cat": ("dog",), "dog": ("cat",), "bus": ("car",)}
    right = torch.eye(4, dtype=torch.float64) * 100
    misled = right.clone()
    misled[1, 1], misled[1, 2] = 90, 10
    pixels = torch.full((4,), 100.0, dtype=torch.float64)
    found = compared(classes, alike, (right, pixels, 80.0), (misled, pixels, 75.0))
    assert found["look-alikes: rise in points"] == pytest.approx(100 * 10 / 300)
    assert found["others: rise in points"] == 0 and found["mIoU: lost in points"] == 5
    assert strongest(classes, (misled - right).numpy())[0] == ("cat", "dog", 10)


@pytest.mark.slow
def test_a_trained_model_is_told_its_own_names_and_all(tmp_path: Path) -> None:
    """Told the same names twice, nothing would change: the two matrices differ, and each row is a distribution."""
    small = {"data.train": 10, "data.val": 5, "data.size": 32, "model.head.channels": 16, "schedule.iterations": 30}
    texts = [f"{key}={value}" for key, value in {**small, "compute.storage": tmp_path / "runs"}.items()]
    cell = plan_one(RECIPE, texts, 0).cells[0]
    metrics = train_cell(cell, torch.device("cpu"))
    found = off_target(OffTarget(kind="off_target"), [Trained(cell, "", metrics)], torch.device("cpu"), tmp_path)
    assert found.numbers["mIoU: percent with present names"] == pytest.approx(metrics["miou"], abs=1e-6)
    given = [found.numbers[f"look-alikes: percent with {told}"] for told in ("present names", "all names")]
    assert given[0] != given[1]
    segmenter = load_segmenter(Trained(cell, "", metrics), torch.device("cpu"), Cache(Datasets(tmp_path / "runs")))
    long = CaptionConfig(source="sentence", sentence="a cat " * 40)
    with pytest.raises(UserError, match="5 of 5 prompts with caption.source=sentence are longer than the 75 tokens"):
        next(segmenter.probabilities(long))
    assert (tmp_path / "off_target.png").is_file()


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A recipe of images of no special size with label maps, which know classes and no single things."""
    for index in range(12):
        sample = render("pretrain", 5, index, 96)
        for name, values in (("images", sample.image[:80]), ("masks", sample.mask[:80])):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(values).save(tmp_path / name / f"{index:02d}.png")
    split = "{images: images/*.png, masks: masks/*.png}"
    classes = ", ".join(("heaven", *CLASSES[1:]))
    (tmp_path / "recipe.yaml").write_text(
        f"extends: {RECIPE}\ndata: {{kind: folder, root: {tmp_path}, train: {split}, val: {split}, classes: [{classes}]}}\n"
        "augment: {crop: 64}\n"
    )
    return tmp_path / "recipe.yaml"


@pytest.mark.slow
def test_photographs_are_analysed_by_pairs_and_cutouts(photographs: Path, tmp_path: Path, store) -> None:
    cutout = np.zeros((40, 30, 4), np.uint8)
    cutout[5:35, 5:25] = (250, 150, 30, 255)
    Image.fromarray(cutout).save(tmp_path / "fox.png")
    pairs = "{fox: grass, palm: sand, bus: road, penguin: snow}"
    spec = f"kind: copy_paste, cases: 1, pairs: {pairs}, cutouts: {{fox: {tmp_path}/fox.png, bus: {tmp_path}/fox.png}}"
    result = run(tmp_path, store, f"{{{spec}}}", recipe=photographs)
    assert result.exit_code == 0, result.output
    for spec, said in (
        ("{kind: copy_paste, cases: 1}", "spec.pairs: name what looks alike; only the pocket scenes know it"),
        ("{kind: copy_paste, pairs: {wolf: cat}}", "spec.pairs: 'wolf' is no class of these data"),
        (
            "{kind: copy_paste, cases: 13, pairs: {fox: grass}}",
            "spec.cases=13: only 0 pictures have a look-alike with room",
        ),
        (
            f"{{kind: copy_paste, pairs: {{fox: cat}}, cutouts: {{fox: {tmp_path}/images/00.png}}}}",
            "transparent around it",
        ),
        ("{kind: variation, images: 1}", "MLflow holds 0 of 1 training"),
    ):
        result = run(tmp_path, store, spec, recipe=photographs)
        assert result.exit_code == 2 and said in result.stderr, result.output


def test_measures_are_those_of_the_model_that_shows_least_and_of_the_pictures_one_by_one() -> None:
    right = {"look-alikes: rise in points": 3.0, "mIoU: lost in points": 5.0}
    right |= {"look-alikes: rise of each in points": 2.0, "others: rise of each in points": 1.0}
    found = seed_measures([right, {**right, "mIoU: lost in points": 4.0}])
    assert {name: own.value for name, own in found.items()} == {
        "look-alikes": 3,
        "each look-alike": 1,
        "lost mIoU": 4,
    }
    assert {(own.count, own.of) for own in found.values()} == {(2, "seeds")} and tuple(found) == OffTarget.measures

    spec = Variation(kind="variation", steps=(1, 2, 3), num_inference_steps=4)
    off = {(name, steps): np.array([1.0, 2.0, 4.0]) * steps**2 for name in PROMPTS for steps in spec.steps}
    found = measures(spec, off)
    # Means of 7/3, 4 and 9 times as much; of image by image, eight times as much.
    assert found["gain"].value == pytest.approx(8 * 7 / 3) and found["least rise"].value == pytest.approx(3 * 7 / 3)
    assert found["gain"].error == pytest.approx(8 * (7 / 3 / 3) ** 0.5) and found["captioned share"].value == 1
    assert {(own.count, own.of) for own in found.values()} == {(3, "images")} and tuple(found) == Variation.measures
    assert standard_error(np.array([1.0, 2.0, 4.0])) == pytest.approx((7 / 3 / 3) ** 0.5)
    assert np.isnan(standard_error(np.ones(1)))
