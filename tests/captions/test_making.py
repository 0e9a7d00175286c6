"""A recipe whose captions are not there names the commands that make them; what is an oracle says so."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tadp_ray.captions.convert import import_store
from tadp_ray.captions.making import missing_stores
from tadp_ray.captions.oracle import degraded_store, oracle_store
from tadp_ray.captions.store import CaptionStore, read_store
from tadp_ray.cli import app
from tadp_ray.config.data import CaptionConfig
from tadp_ray.config.load import load_recipe
from tadp_ray.errors import UserError
from tadp_ray.sweep.plan import Plan
from tadp_ray.sweep.planning import plan_one
from tadp_ray.training.setup import TrainSetup
from tests.fixtures.cli import invoke

RECIPES = Path(__file__).resolve().parents[2] / "experiments/recipes"
BLIP = "tadp-ray caption blip"


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where there are no captions."""
    monkeypatch.chdir(tmp_path)


def made_by(name: str, *changes: str) -> dict[str, str]:
    """By missing store, what is said of it."""
    said = missing_stores([load_recipe(RECIPES / f"{name}.yaml", changes)])
    return dict(line.split(" is missing; ") for line in said)


def test_each_store_of_the_papers_recipes_is_made_by_a_command_that_is_told() -> None:
    found = made_by("pascal_segmentation", "data.root=VOC devkit")["captions/pascal_min40.jsonl"]
    words = "pascal_segmentation --root 'VOC devkit'"
    made = f"make it: {BLIP} {words} --min-tokens 40 --out captions/pascal_min40.jsonl --gpus 1"
    bring = f"tadp-ray caption import FILE.json --data {words} --out captions/pascal_min40.jsonl"
    assert found == f"{made}; or bring a published file: {bring}"
    assert "nyuv2 --root data/nyu_depth_v2 --min-tokens 40 --out" in made_by("nyuv2")["captions/nyuv2_min40.jsonl"]
    assert "--min-tokens 20" in made_by("ade20k_fast_4k")["captions/ade20k_min20.jsonl"]
    assert made_by("pocket_segmentation") == made_by("ade20k_fast_4k_oracle") == {}


def test_across_domains_each_domain_has_a_command_and_no_least_length() -> None:
    found = made_by("pascal_to_comic", "compute.gpus=0")
    made = {store: said.partition("; or ")[0] for store, said in found.items()}
    assert made == {
        "captions/comic.jsonl": f"make it: {BLIP} comic2k --root data/comic --out captions/comic.jsonl",
        "captions/pascal_detection.jsonl": f"make it: {BLIP} pascal_detection --root data/VOCdevkit "
        "--out captions/pascal_detection.jsonl",
    }
    both = made_by("pascal_to_comic", "caption.target_store=null", "compute.gpus=0")["captions/pascal_detection.jsonl"]
    assert f"data/VOCdevkit --out captions/pascal_detection.jsonl && {BLIP} comic2k --root data/comic" in both


def test_captions_of_further_evaluations_are_those_of_scored_images() -> None:
    told = "evaluation.captions={BLIP: {source: store, store: blip.jsonl}}"
    found = made_by("ade20k_fast_4k_oracle", told, "data.root=ADE")
    assert found["blip.jsonl"].startswith(f"make it: {BLIP} ade20k --root ADE --split val --out blip.jsonl")
    same = "evaluation.captions={BLIP: {source: store, store: captions/ade20k_min20.jsonl}}"
    both = made_by("ade20k_fast_4k", same, "data.root=ADE")["captions/ade20k_min20.jsonl"]
    assert both.startswith(f"make it: {BLIP} ade20k --root ADE --min-tokens 20 --out")
    # Of the recipes of a sweep, one trains with the store and another is scored with it.
    rows = [
        load_recipe(
            RECIPES / "ade20k_fast_4k.yaml", [f"evaluation.captions={others}", f"caption={caption}", "data.root=ADE"]
        )
        for caption, others in (
            ("{source: store, store: blip.jsonl}", "{}"),
            ("{source: 'null'}", told.partition("=")[2]),
        )
    ]
    (said,) = missing_stores(rows)
    assert f"make it: {BLIP} ade20k --root ADE --out blip.jsonl" in said
    across = made_by("pascal_to_comic", told)["blip.jsonl"]
    assert across.startswith(f"make it: {BLIP} comic2k --root data/comic --out blip.jsonl")


def test_captions_with_tags_are_written_by_hand() -> None:
    told = "caption={source: store, store: kinds.jsonl, tag: scene}"
    others = "evaluation.captions={counts: {source: store, store: kinds.jsonl, tag: counts}}"
    said = made_by("ade20k_fast_4k", told, others)["kinds.jsonl"]
    form = '{"ID": {"captions": {"scene": "...", "counts": "..."}}, ...}'
    assert said == f"write a store of your own with these captions of each image: {form}"


def test_photographs_of_a_folder_and_scenes() -> None:
    told = "caption={source: store, store: mine_min20.jsonl}"
    said = made_by("folder_segmentation", told)["mine_min20.jsonl"]
    assert (
        f"{BLIP} 'photos/train/*' --min-tokens 20 --out mine_min20.jsonl && {BLIP} 'photos/val/*' --min-tokens" in said
    )
    assert (
        "scenes are drawn, and no captioner looks at them: use source: template"
        in made_by("pocket_segmentation", told)["mine_min20.jsonl"]
    )
    bring = "tadp-ray caption import FILE --images 'photos/train/*' --images 'photos/val/*' --out mine_min20.jsonl"
    assert said.endswith(f"; or bring a file: {bring}")
    escaped = made_by("folder_segmentation", told, "data.root=photos [1]")["mine_min20.jsonl"]
    assert f"{BLIP} 'photos [[]1]/train/*'" in escaped
    nouns = made_by("pascal_segmentation", "caption.store=captions/pascal_min40_nouns.jsonl")
    assert nouns["captions/pascal_min40_nouns.jsonl"].startswith(
        "make it of captions/pascal_min40.jsonl: tadp-ray caption nouns captions/pascal_min40.jsonl --out "
        "captions/pascal_min40_nouns.jsonl; or bring a published file of nouns: tadp-ray caption import"
    )


def test_splits_with_images_of_the_same_name_have_a_store_each(tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / "photos" / split).mkdir(parents=True)
        for name in ("0", split):
            (tmp_path / f"photos/{split}/{name}.jpg").touch()
    told = ("caption={source: store, store: said.jsonl}", "compute.gpus=0", f"data.root={tmp_path}/photos")
    said = made_by("folder_segmentation", *told)["said.jsonl"]
    assert said == (
        f"images of train and of val are called 0, so each split needs a store of its own: {BLIP} '{tmp_path}/photos/train/*' "
        f"--out said.jsonl; {BLIP} '{tmp_path}/photos/val/*' --out said_val.jsonl; then set caption.target_store=said_val.jsonl"
    )
    two = made_by("folder_segmentation", *told, "caption.target_store=said_val.jsonl")
    assert all(text.startswith("make it: ") and "&&" not in text for text in two.values()) and len(two) == 2


def test_the_commands_are_ones_that_the_program_has() -> None:
    """Options change; a command that is told must not be refused for its words."""
    import typer

    group = typer.main.get_command(app).commands["caption"]
    names = ("pascal_segmentation", "cityscapes_to_dark_zurich", "pascal_to_comic", "nyuv2", "ade20k")
    told = "caption={source: store, store: mine.jsonl}"
    for said in [said for name in names for said in made_by(name).values()] + [
        *made_by("folder_segmentation", told).values()
    ]:
        said = said.replace("published file", "file")
        for command in said.replace("; or bring a file: ", " && ").removeprefix("make it: ").split(" && "):
            program, caption, verb, *words = shlex.split(command)
            assert (program, caption) == ("tadp-ray", "caption")
            group.commands[verb].make_context(verb, words)


def test_a_training_with_captions_of_other_form_is_mended_by_the_command_that_it_tells(tmp_path: Path) -> None:
    """The user's file stays, and the store that is made has the ids of both splits."""
    rows = []
    for split, suffix in (("train", "jpg"), ("train", "png"), ("val", "png")):
        for folder in (split, f"{split}_masks"):
            (tmp_path / "my photos" / folder).mkdir(parents=True, exist_ok=True)
        name = f"{split}_{suffix}"
        Image.new("RGB", (200, 200)).save(tmp_path / f"my photos/{split}/{name}.{suffix}")
        mask = np.zeros((200, 200), np.uint8)
        mask[:50] = 1
        Image.fromarray(mask).save(tmp_path / f"my photos/{split}_masks/{name}.png")
        rows.append({"image": f"{name}.{suffix}", "caption": f"a {name}"})
    Path("captions.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    before = Path("captions.jsonl").read_bytes()

    def planned(store: str) -> Plan:
        told = f"caption={{source: store, store: {store}}}"
        return plan_one(RECIPES / "folder_segmentation.yaml", ["data.root=my photos", told], 0)

    def run(error: str) -> None:
        words = shlex.split(re.search("tadp-ray (caption import .*?), and name the new file", error)[1])
        result = invoke(*words)
        assert result.exit_code == 0 and "captions of 3 images; 0 images left out" in result.output, error

    with pytest.raises(UserError, match=r"not a caption store but one object a line") as caught:
        planned("captions.jsonl")
    run(str(caught.value))
    assert Path("captions.jsonl").read_bytes() == before
    (cell,) = planned("captions.store.jsonl").cells
    setup = TrainSetup(cell.recipe, 0)
    assert setup.train_prompts.by_id == {"train_jpg": "a train_jpg", "train_png": "a train_png"}
    assert setup.val_prompts.by_id == {"val_png": "a val_png"}
    # Ids with an ending are no image's.
    assert invoke("caption", "import", "captions.jsonl", "--out", "raw.jsonl").exit_code == 0
    (cell,) = planned("raw.jsonl").cells
    with pytest.raises(UserError, match=r"'train_jpg' is 'train_jpg\.jpg' there") as caught:
        _ = TrainSetup(cell.recipe, 0).train_prompts
    run(str(caught.value))
    assert read_store(Path("raw.store.jsonl")).digest() == read_store(Path("captions.store.jsonl")).digest()


@pytest.mark.parametrize(
    ("source", "told"),
    [("oracle", True), ("template", True), ("shuffled", True), ("wrong", True)]
    + [("null", False), ("class_names", False), ("sentence", False), ("store", False)],
)
def test_sources_made_of_ground_truth_names_are_known(source: str, told: bool) -> None:
    more = {"sentence": {"sentence": "a photo"}, "store": {"store": "x.jsonl"}}.get(source, {})
    assert CaptionConfig(source=source, **more).uses_ground_truth == told
    if source == "oracle":
        assert CaptionConfig(source=source, encoding="class_embeddings").uses_ground_truth


def test_a_store_of_ground_truth_names_says_so_on_all_its_ways(tmp_path: Path) -> None:
    oracle = oracle_store({"a": ("cat",), "b": ("dog",)}, ["cat", "dog"], {})
    worse = degraded_store(oracle, precision=1.0, recall=1.0, seed=0, count_tokens=len, budget=75)
    blip = CaptionStore({"a": ("cat",), "b": ("dog",)}, {"captioner": {"model": "blip"}})
    for number, (store, told) in enumerate([(oracle, True), (worse, True), (blip, False)]):
        store.write(tmp_path / f"{number}.jsonl")
        import_store(tmp_path / f"{number}.jsonl").write(tmp_path / f"imported_{number}.jsonl")
        for name in (f"{number}.jsonl", f"imported_{number}.jsonl"):
            assert read_store(tmp_path / name).uses_ground_truth == told, name
    published = tmp_path / "pascal_class_names.json"
    published.write_text('{"a": {"captions": ["background cat"]}}')
    import_store(published).write(tmp_path / "voc.jsonl")
    assert read_store(published).uses_ground_truth and read_store(tmp_path / "voc.jsonl").uses_ground_truth
    import_store(tmp_path / "voc.jsonl").write(tmp_path / "again.jsonl")
    assert read_store(tmp_path / "again.jsonl").uses_ground_truth
