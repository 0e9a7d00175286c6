"""`tadp-ray caption`: stores are made, degraded, shown, counted, checked and compared; what is wrong is named."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tadp_ray.captions.convert import import_store
from tadp_ray.captions.nouns import nouns_store
from tadp_ray.captions.prompts import make_prompts
from tadp_ray.captions.store import CaptionStore, read_store
from tadp_ray.cli import app
from tadp_ray.config.data import CaptionConfig

CLASSES = "sky,dining table,cat,dog"
LABELS = {"a": [0, 1], "b": [2], "c": [255], "d": [1, 3, 255]}


def invoke(*words: object):
    """Run `tadp-ray caption` in this process."""
    return CliRunner().invoke(app, ["caption", *map(str, words)])


def refusal(*words: object) -> str:
    """What is said of a command that cannot be carried out."""
    result = invoke(*words)
    assert result.exit_code == 2 and result.stderr.startswith("error: ") and "Traceback" not in result.output
    return result.stderr


@pytest.fixture
def masks(tmp_path: Path) -> str:
    """Label maps of four images; their glob."""
    for stem, labels in LABELS.items():
        Image.fromarray(np.array([labels], np.uint8)).save(tmp_path / f"{stem}_mask.png")
    return f"{tmp_path}/*_mask.png"


@pytest.fixture
def oracle(masks: str, tmp_path: Path) -> Path:
    """Their oracle store."""
    result = invoke("oracle", "--masks", masks, "--mask-suffix", "_mask", "--classes", CLASSES, "--out", tmp_path / "o")
    assert result.exit_code == 0, result.output
    return tmp_path / "o"


def published(path: Path, **captions: object) -> Path:
    """Write a caption file of the published form."""
    path.write_text(json.dumps({image_id: {"captions": texts} for image_id, texts in captions.items()}))
    return path


def test_an_oracle_store_holds_the_names_one_by_one(oracle: Path) -> None:
    store = read_store(oracle)
    assert {i: texts[0] for i, texts in store.captions.items()} == {
        "a": "sky dining table",
        "b": "cat",
        "c": "",
        "d": "dining table dog",
    }
    assert store.names["d"] == ("dining table", "dog") and store.names["c"] == ()
    assert store.header["classes"] == CLASSES.split(",")
    assert invoke("check", oracle).exit_code == 0, "an image that shows nothing has an empty caption by right"


def test_a_degraded_store_says_what_a_training_of_that_seed_is_given(oracle: Path, tmp_path: Path) -> None:
    targets = {"precision": 0.5, "recall": 0.6}
    options = [word for name, value in targets.items() for word in (f"--{name}", value)]
    for name in ("one", "two"):
        assert invoke("degrade", oracle, *options, "--seed", 3, "--out", tmp_path / name).exit_code == 0
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    store = read_store(tmp_path / "one")
    prompts = make_prompts(
        CaptionConfig(source="oracle", **targets), read_store(oracle).names, CLASSES.split(","), 3, lambda _: 1
    )
    assert {i: texts[0] for i, texts in store.captions.items()} == prompts.by_id
    assert store.header["realised"]["recall"] == prompts.score.recall == 0.6
    found = json.loads(invoke("align", tmp_path / "one", "--oracle", oracle, "--match", "exact", "--json").stdout)
    assert (found["precision"]["micro"], found["recall"]["micro"]) == (prompts.score.precision, prompts.score.recall)
    more = ("--precision", 0.5, "--recall", 1, "--distractors", "piano,oven", "--out", tmp_path / "more")
    assert invoke("degrade", oracle, *more).exit_code == 0
    realised = read_store(tmp_path / "more").header["realised"]
    found = json.loads(invoke("align", tmp_path / "more", "--oracle", oracle, "--match", "exact", "--json").stdout)
    assert found["precision"]["micro"] == realised["precision"] < 0.6, "a distractor is a wrong name"
    kept = import_store(tmp_path / "more", {"a", "b", "c"})
    assert "realised" not in kept.header and "realised" in import_store(tmp_path / "more").header
    assert (
        "realised" not in nouns_store(read_store(tmp_path / "more"), lambda words: ["NN1"] * len(words), "all").header
    )


def test_the_captions_of_a_tag_are_measured_and_none_by_chance(oracle: Path, tmp_path: Path) -> None:
    right = {i: texts[0] for i, texts in read_store(oracle).captions.items()}
    # Tags stand in another order for one image.
    tags = {i: ("names", "scene") if i != "a" else ("scene", "names") for i in right}
    texts = {i: tuple(right[i] if tag == "names" else "a photo" for tag in tags[i]) for i in right}
    CaptionStore(texts, {"captioner": "by hand"}, tags=tags).write(tmp_path / "tagged")
    words = ("align", tmp_path / "tagged", "--oracle", oracle, "--match", "exact", "--json")
    assert "choose one of its tags: scene, names" in refusal(*words)
    for tag, recall in (("names", 1.0), ("scene", 0.0)):
        assert json.loads(invoke(*words, "--tag", tag).stdout)["recall"]["micro"] == recall


def test_a_plot_is_a_png_which_is_told_before_anything_is_printed(oracle: Path, tmp_path: Path) -> None:
    words = ("align", oracle, "--oracle", oracle, "--match", "exact", "--plot", tmp_path / "p.jsonl")
    assert f"--plot {words[-1]}: is a PNG image; let its name end in .png" in refusal(*words)
    assert not invoke(*words).stdout


def test_what_cannot_be_degraded_is_refused_with_the_mend(oracle: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "degraded")
    told = refusal("degrade", oracle, "--recall", 0.2, *out)
    assert (
        f"{oracle}: recall 0.2 cannot be reached with min_true=1" in told
        and "--min-true 0 or raise --recall to 0.6 or more" in told
    )
    told = refusal("degrade", oracle, "--precision", 0.1, *out)
    assert "no image in --distractors, lower --recall, or raise --precision to" in told
    assert "caption." not in told and "--only" not in told
    assert f"{oracle}: --precision 0.0 is outside" in refusal("degrade", oracle, "--precision", 0, *out)
    CaptionStore({"a": ("cat",)}, {"captioner": "by hand"}).write(tmp_path / "hand")
    told = refusal("degrade", tmp_path / "hand", *out)
    assert "hand: was not made by tadp-ray caption oracle" in told and not (tmp_path / "degraded").exists()
    assert "'cat' is a class already" in refusal("degrade", oracle, "--distractors", "cat", *out)


def test_labels_and_names_that_do_not_fit_are_refused(oracle: Path, masks: str, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "again")
    told = refusal("oracle", "--masks", masks, "--classes", "sky,dining table", *out)
    assert "b_mask.png: label 2 is beyond the 2 names of --classes; add its name, or leave" in told
    assert "name the ground truth with --masks and --classes" in refusal("oracle", "--masks", masks, *out)
    assert "no file matches this glob" in refusal("oracle", "--masks", "nowhere/*.png", "--classes", CLASSES, *out)
    named = ("align", oracle, "--oracle", oracle, "--match", "exact")
    for stray, owner in (("--ignore 3", "masks"), ("--split val", "data"), ("--classes a,b", "masks")):
        told = refusal(*named, *stray.split())
        assert f"{stray.split()[0]}: belongs to --{owner}, not to --oracle; leave it out" in told
    assert "name the ground truth with" in refusal(*named, "--masks", masks, "--classes", CLASSES)
    told = refusal("oracle", "--masks", masks, "--classes", CLASSES, "--root", tmp_path, *out)
    assert "--root: belongs to --data, not to --masks" in told
    for match in ("similar", "exact"):
        told = refusal("align", oracle, "--oracle", oracle, "--match", match, "--synonyms", "own.yaml")
        assert f"--synonyms own.yaml: is for --match synonyms, not {match}" in told
    told = refusal("align", oracle, "--oracle", oracle, "--without", "background")
    assert "--without background: not one of the classes sky, dining table" in told
    assert "needs a text encoder: name a Stable Diffusion with --weights" in refusal(
        "align", oracle, "--oracle", oracle
    )
    reduced = invoke("oracle", "--masks", masks, "--classes", "dining table,cat,dog", "--reduce-zero-label", *out)
    assert reduced.exit_code == 0 and read_store(tmp_path / "again").names["a_mask"] == ("dining table",)


def test_an_import_takes_the_data_set_s_ids_and_says_what_it_left_out(masks: str, tmp_path: Path) -> None:
    file = published(
        tmp_path / "blip.json", **{"night/x/a_mask.png": ["a table", "a table"], "b_mask.png": ["a cat "], "z": ["z"]}
    )
    result = invoke("import", file, "--images", masks, "--out", tmp_path / "store")
    assert "captions of 2 images; 1 image left out, 2 ids changed, 1 repetition dropped" in result.stdout
    store = read_store(tmp_path / "store")
    assert dict(store.captions) == {"a_mask": ("a table",), "b_mask": ("a cat ",)}
    assert store.header["imported_from"] == "blip.json" and len(store.header["imported_sha256"]) == 64
    # A room's file name says nothing of the room, so it may not be guessed.
    rooms = published(tmp_path / "rooms.json", **{"rgb_1.jpg": ["a room"], "/kitchen/rgb_1.jpg": ["a kitchen"]})
    from tadp_ray.captions.convert import import_store, meaning

    ids = ["kitchen/rgb_1.jpg", "office/rgb_1.jpg"]
    assert dict(import_store(rooms, ids).captions) == {"kitchen/rgb_1.jpg": ("a kitchen",)}
    # Nor is an image of another split taken for one of its name.
    assert meaning(["train/1.png", "x/val/2.png", "3"], ["val/1.png", "val/2.png", "val/3.png"]) == {
        "x/val/2.png": "val/2.png",
        "3": "val/3.png",
    }
    # Of one split alone, ids have no folders, but their files have. Keys may be of folders elsewhere.
    files = {name: Path(f"/photos/train/{name}.png") for name in "12"}
    assert meaning(["train/1.png", "val/1.png", "val/2.png", "2"], files) == {"train/1.png": "1", "2": "2"}
    assert meaning(["JPEGImages/1.png", "2"], files) == {"JPEGImages/1.png": "1", "2": "2"}


@pytest.mark.parametrize(
    ("captions", "said"),
    [
        ({"a": [["a cat"]]}, "id 'a', captions: number 1 is ['a cat'] (list), where a string belongs; write its text"),
        ({"a": "a cat"}, """id 'a': expected an object with "captions": [at least one string]"""),
        ({"a": [" "]}, "id 'a': the caption ' ' is empty; caption the image again"),
        ({"a": ["a\x00cat"]}, r"id 'a': the caption 'a\x00cat' holds the character '\x00'; take it out"),
        ({"a": ["caf\ufffd"]}, r"id 'a': the caption 'caf�' holds the character '\ufffd'"),
        ({"z": ["a cat"]}, "no caption for 4 images: 'a_mask', 'b_mask', 'c_mask', 'd_mask'"),
        ({"x/a_mask.jpg": ["x"], "y/a_mask.jpg": ["y"]}, "'x/a_mask.jpg' and 'y/a_mask.jpg' both mean image 'a_mask'"),
    ],
)
def test_a_bad_caption_file_is_not_imported(masks: str, tmp_path: Path, captions: dict, said: str) -> None:
    told = refusal("import", published(tmp_path / "bad.json", **captions), "--images", masks, "--out", tmp_path / "s")
    assert "bad.json" in told and said in told and not (tmp_path / "s").exists()


def test_no_command_replaces_what_it_reads_or_a_file_of_other_content(oracle: Path, masks: str, tmp_path: Path) -> None:
    rows = tmp_path / "captions.jsonl"
    rows.write_text('{"image": "a.jpg", "caption": "a cat"}\n{"image": "b.jpg", "caption": "a dog"}\n')
    names, link = tmp_path / "names.txt", tmp_path / "link.jsonl"
    names.write_text(CLASSES.replace(",", "\n"))
    link.symlink_to(rows)
    before = {file: file.read_bytes() for file in (rows, names, oracle)}
    for out, command in (
        (rows, ("import", rows)),
        (link, ("import", rows)),
        (names, ("import", rows)),
        (oracle, ("import", oracle)),
        (oracle, ("degrade", oracle)),
        (oracle, ("nouns", oracle)),
        (rows, ("nouns", oracle)),
        (names, ("oracle", "--masks", masks, "--classes", names)),
        (rows, ("blip", str(tmp_path))),
    ):
        told = refusal(*command, "--out", out)
        assert f"--out {out}: is " in told and f"name another file, e.g. {out.with_suffix('.store.jsonl')}" in told
    shown, picture = published(tmp_path / "shown.json", a_mask=["a cat"]), tmp_path / "a_mask.png"
    before |= {file: file.read_bytes() for file in (shown, picture)}
    told = {out: refusal("show", shown, "--images", picture, "--out", out) for out in (shown, picture)}
    assert "shown.json: is a PNG image; let its name end in .png" in told[shown]
    assert "a_mask.png: is a file that is read, which would be lost; name another" in told[picture]
    assert before == {file: file.read_bytes() for file in before}
    # A store of ours is made again.
    for _ in range(2):
        assert invoke("import", rows, "--out", tmp_path / "captions.store.jsonl").exit_code == 0


def test_an_import_without_a_file_or_without_any_image_of_it_says_so(masks: str, tmp_path: Path) -> None:
    told = refusal("import", tmp_path / "nope.csv", "--out", tmp_path / "s")
    assert "nope.csv: no such file" in told and "caption.store" not in told
    file = published(tmp_path / "other.json", x1=["a cat"], x2=["a dog"])
    told = refusal("import", file, "--images", masks, "--out", tmp_path / "s")
    assert "'d_mask' (of 2 captioned images); its entries are of 'x1', 'x2'" in told and "caption.store" not in told


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe of photographs in the shipped layout, of both formats."""
    for split, suffix in (("train", "jpg"), ("train", "png"), ("val", "png")):
        for folder in (split, f"{split}_masks"):
            (tmp_path / "photos" / folder).mkdir(parents=True, exist_ok=True)
        name = f"{split}_{suffix}"
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / f"photos/{split}/{name}.{suffix}")
        mask = np.zeros((8, 8), np.uint8)
        mask[:4] = split == "train"
        Image.fromarray(mask).save(tmp_path / f"photos/{split}_masks/{name}.png")
    file = tmp_path / "my.yaml"
    file.write_text(f"extends: folder_segmentation\ndata: {{root: {json.dumps(str(tmp_path / 'photos'))}}}\n")
    return file


def test_a_recipe_names_the_photographs_of_both_splits(recipe: Path, tmp_path: Path) -> None:
    rows, out = tmp_path / "rows.csv", tmp_path / "store"
    rows.write_text("image,caption\ntrain_jpg.jpg,a cat\ntrain_pgn.png,a car\nval_png.png,a dog\n")
    photos = tmp_path / "photos"
    globs = [word for split in ("train", "val") for word in ("--images", f"{photos}/{split}/*")]
    for named in (("--data", recipe), ("--data", "folder_segmentation", "--root", photos), globs):
        told = invoke("import", rows, *named, "--out", out)
        assert told.stdout.splitlines()[1:] == [
            "  1 entry without an image: train_pgn.png",
            "  1 image without a caption: train_png",
        ], told.output
        assert dict(read_store(out).captions) == {"train_jpg": ("a cat",), "val_png": ("a dog",)}
        checked = invoke("check", out, *named)
        assert checked.exit_code == 1 and "no caption for 1 image: 'train_png'" in checked.stdout
    assert invoke("check", out, "--data", recipe, "--split", "val").exit_code == 0
    assert invoke("oracle", "--data", recipe, "--out", out).exit_code == 0
    assert read_store(out)["train_png"] == ("background thing",) and read_store(out)["val_png"] == ("background",)
    told = refusal("import", rows, "--data", recipe, "--root", tmp_path / "none", "--out", out)
    assert "there is no such folder" in told and "name it with --root FOLDER" in told
    assert "data.kind: scenes has no files; name a recipe of photographs" in refusal(
        "import", rows, "--data", "pocket_segmentation", "--out", out
    )


def test_photographs_of_both_splits_with_one_id_need_two_stores(recipe: Path, tmp_path: Path) -> None:
    rows, out, photos = tmp_path / "rows.csv", tmp_path / "store", tmp_path / "photos"
    rows.write_text("image,caption\ntrain/train_jpg.jpg,a cat\nval/train_jpg.png,a dog\n")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(photos / "val/train_jpg.png")
    for one, other, named in (
        ("--split train", "--split val", ("--data", recipe)),
        (
            *(f"--images {photos}/{split}/*" for split in ("train", "val")),
            ("--images", f"{photos}/train/*", "--images", f"{photos}/val/*"),
        ),
    ):
        told = refusal("import", rows, *named, "--out", out)
        assert f"has the id 'train_jpg' of {photos}/train/train_jpg.jpg (1 of 2 images)" in told
        assert f"name {one} and {other} one at a time" in told and not out.exists()
    for split, said in (("train", "a cat"), ("val", "a dog")):
        done = invoke("import", rows, "--data", recipe, "--split", split, "--out", out)
        assert done.exit_code == 0 and "other folders" not in done.output
        assert dict(read_store(out).captions) == {"train_jpg": (said,)}
    rows.write_text("image,caption\nval/train_jpg.png,a dog\n")
    done = invoke("import", rows, "--data", recipe, "--split", "train", "--out", out)
    assert (
        "1 entry of other folders than the images: val/train_jpg.png; if these are captions of another" in done.output
    )
    rows.write_text("image,caption\n/mnt/elsewhere/train/train_jpg.jpg,a cat\n")
    done = invoke("import", rows, "--data", recipe, "--split", "train", "--out", out)
    assert done.exit_code == 0 and "other folders" not in done.output


def test_text_that_is_not_utf8_or_says_an_id_twice_is_named_by_its_place(tmp_path: Path) -> None:
    file = tmp_path / "latin.json"
    file.write_bytes('{"a": {"captions": ["a cat"]},\n"b": {"captions": ["a café"]}}'.encode("latin-1"))
    told = refusal("import", file, "--out", tmp_path / "s")
    assert "latin.json: line 2 is not UTF-8 text; save the file as UTF-8" in told
    file.write_text('{"a": {"captions": ["a cat"]}, "a": {"captions": ["a dog"]}}')
    assert "latin.json: 'a' occurs twice; keep one" in refusal("import", file, "--out", tmp_path / "s")


def test_several_captions_of_an_image_are_kept_and_only_the_first_is_used(tmp_path: Path) -> None:
    rows, out = tmp_path / "rows.csv", tmp_path / "store"
    rows.write_text("image,caption\np0.jpg,cat\np1.jpg,car\np1.jpg,another\np1.jpg,car\n")
    for name in ("p0", "p1"):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / f"{name}.jpg")
    told = invoke("import", rows, "--images", f"{tmp_path}/*.jpg", "--out", out).stdout
    line = "1 image has several captions, of which a training uses only the first: p1"
    assert "0 images left out, 2 ids changed, 1 repetition dropped" in told and line in told
    assert read_store(out).chosen(["p0", "p1"], None) == {"p0": "cat", "p1": "car"}
    result = invoke("check", out)
    assert result.exit_code == 0 and line in result.stdout and "no problems" in result.stdout
    CaptionStore({"a": ("x", "y")}, {}, tags={"a": ("one", "two")}).write(out)
    assert "several captions" not in invoke("check", out).stdout, "a recipe chooses by tags"


def test_a_check_lists_all_that_is_wrong_and_says_so_by_its_exit_code(masks: str, oracle: Path, tmp_path: Path) -> None:
    long = "a cat " * 40
    file = published(tmp_path / "mixed.json", a_mask=[long], b_mask=[""], c_mask=["a\tcat"], other=["a dog"])
    result = invoke("check", file, "--images", masks, "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 1 and len(found["problems"]) == 4
    missing, empty, control, longer = found["problems"]
    assert "no caption for 1 image: 'd_mask'" in missing and "id 'b_mask': the caption '' is empty" in empty
    assert r"holds the character '\t'" in control
    assert "id 'a_mask': 80 tokens, of which the text encoder reads 75; shorten it" in longer
    assert found["over_budget"] == [{"id": "a_mask", "tokens": 80, "caption": long}] and found["surplus"] == ["other"]
    printed = invoke("check", file, "--images", masks)
    assert "1 caption over the text encoder's budget, as the tokenizer of pocket" in printed.stdout
    assert "4 problems" in printed.stdout and printed.exit_code == 1
    file.write_text("{")
    assert invoke("check", file).exit_code == 1 and "broken JSON" in invoke("check", file).stdout
    stale = CaptionStore({"a": ("a cat",)}, {"classes": ["cat", "dog"]}, names={"a": ("cat", "dog")})
    stale.write(tmp_path / "stale")
    assert (
        "id 'a': no caption says the recorded name 'dog'; make the store again"
        in invoke("check", tmp_path / "stale").stdout
    )
    foreign = CaptionStore({"a": ("a cow",)}, {"classes": ["cat"]}, names={"a": ("cow",)})
    foreign.write(tmp_path / "foreign")
    assert "id 'a': the name 'cow' is not in the data set's class list" in invoke("check", tmp_path / "foreign").stdout


def test_a_check_with_a_recipe_counts_its_modifiers_with_its_tokenizer(tmp_path: Path) -> None:
    file = published(tmp_path / "long.json", a=["a cat " * 36])
    for name in ("a.jpg", "a.png"):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / name)
    part = "{images: '*.jpg', masks: '*.png'}"
    (tmp_path / "my.yaml").write_text(
        f"extends: {Path('experiments/recipes/folder_segmentation.yaml').absolute()}\n"
        f"data: {{root: '{tmp_path}', classes: [cat, dog], train: {part}, val: {part}}}\n"
        "caption: {source: 'null', modifiers: ['a very dark photo of {caption} at night']}\n"
    )
    assert "no problems" in invoke("check", file).stdout
    told = invoke("check", file, "--data", tmp_path / "my.yaml").output
    assert "id 'a': 79 tokens, of which the text encoder reads 75" in told, told


def test_figures_and_differences(oracle: Path, tmp_path: Path) -> None:
    file = published(tmp_path / "b.json", a=["a cat", "a cat"], b=["cat"], e=["a cat " * 40])
    found = json.loads(invoke("stats", file, "--json").stdout)
    assert (found["images"], found["captions"], found["distinct"], found["repeated"]) == (3, 4, 3, 1)
    assert found["tokens"] | {"p95": 0} == {"mean": 21.25, "median": 2, "p95": 0, "min": 1, "max": 80}
    assert (found["over_budget"], found["longest"], found["most_common"]["a cat"]) == (1, "e", 2)
    assert "1 over the budget of 75 tokens (pocket); the longest is that of 'e'" in invoke("stats", file).stdout
    assert invoke("diff", oracle, oracle).exit_code == 0
    result = invoke("diff", oracle, file)
    assert result.exit_code == 1 and "1 image with the same captions, 1 with others" in result.stdout
    assert "2 images only in the first: c, d" in result.stdout and "    - sky dining table\n" in result.stdout
    for name, tags in (("one", ("scene", "relations")), ("other", ("relations", "scene"))):
        CaptionStore({"a": ("x", "y")}, {}, tags={"a": tags}).write(tmp_path / name)
    result = invoke("diff", tmp_path / "one", tmp_path / "other")
    assert result.exit_code == 1 and "    - scene: x\n    - relations: y\n    + relations: x\n" in result.stdout


def test_captions_are_shown_as_words_or_beside_pictures(oracle: Path, masks: str, tmp_path: Path) -> None:
    assert "d: dining table dog" in invoke("show", oracle, "--count", 2).stdout
    for stem in LABELS:
        Image.fromarray(np.full((32, 48, 3), 128, np.uint8)).save(tmp_path / f"{stem}.jpg")
    sheet = tmp_path / "sheet.png"
    assert invoke("show", oracle, "--images", f"{tmp_path}/?.jpg", "--out", sheet).exit_code == 0
    with Image.open(sheet) as drawn:
        assert drawn.size[0] == 1200
    assert "--out needs images" in refusal("show", oracle, "--out", sheet)
    assert "no caption for 4 images: 'a_mask'" in refusal("show", oracle, "--images", masks, "--out", sheet)


def test_a_data_set_of_the_paper_names_images_and_what_they_show(shared: Path, tmp_path: Path) -> None:
    """Real ADE20K samples: ids are file names, as in the published captions, and stems find their way to them."""
    samples = shared / "data/ade20k/sceneparsing/sampleData"
    for folder in ("images", "annotations"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "validation").symlink_to(samples / folder)
    ids = {path.name for path in (samples / "images").glob("*.jpg")}
    data = ("--data", "ade20k", "--root", tmp_path, "--split", "val")
    assert invoke("oracle", *data, "--out", tmp_path / "oracle").exit_code == 0
    assert read_store(tmp_path / "oracle").captions.keys() == ids and len(ids) == 3
    stems = published(tmp_path / "blip.json", **{Path(name).stem: ["a wall"] for name in ids})
    assert invoke("check", stems, *data).exit_code == 1
    assert invoke("import", stems, *data, "--out", tmp_path / "store").exit_code == 0
    assert invoke("check", tmp_path / "store", *data).exit_code == 0
    aligned = invoke("align", tmp_path / "store", *data, "--match", "exact", "--json", "--plot", tmp_path / "fits.png")
    assert json.loads(aligned.stdout)["precision"]["micro"] == 1
    assert (tmp_path / "fits.png").read_bytes()[:4] == b"\x89PNG"
    told = refusal("oracle", "--data", "ade20k", "--root", tmp_path, "--split", "test", "--out", tmp_path / "x")
    assert "--split test: ade20k has train and val" in told
    assert "ade20k: name the folder that holds it with --root" in refusal("check", stems, "--data", "ade20k")
    told = refusal("check", stems, "--data", "ade20k", "--root", tmp_path, "--images", "*.jpg")
    assert "name images with --images, or with --data and --root" in told


def test_an_oracle_leaves_the_background_aside_where_it_is_asked_to(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 1], [0, 1]], np.uint8)).save(tmp_path / "a.png")
    options = ("oracle", "--masks", f"{tmp_path}/*.png", "--classes", "background,cat", "--out", tmp_path / "o.jsonl")
    assert invoke(*options).exit_code == 0
    assert read_store(tmp_path / "o.jsonl")["a"] == ("background cat",)
    assert invoke(*options, "--without-background").exit_code == 0
    store = read_store(tmp_path / "o.jsonl")
    assert store["a"] == ("cat",) and store.header["classes"] == ["cat"]
