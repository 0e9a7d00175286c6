"""YAML 1.2 is read as its core schema says; what is too large, too deep or refers to itself is refused at once."""

import math
import time
from pathlib import Path

import pytest

from tadp_ray.captions.synonyms import read_synonyms
from tadp_ray.config.errors import ConfigError
from tadp_ray.config.load import load_personalization, load_recipe, load_sweep, parse_override, read_yaml
from tadp_ray.config.sweep import Sweep
from tadp_ray.config.yaml12 import MAX_BYTES, dump_yaml, parse_yaml

SCHEDULE = "schedule: {iterations: 10, learning_rate: 5e-4}\ncaption: {source: oracle}\n"


def refusal(text: str) -> str:
    """What is said against a YAML text called x.yaml; at once."""
    began = time.process_time()
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "x.yaml")
    assert time.process_time() - began < 2
    assert len(str(caught.value)) < 300
    return str(caught.value)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        *((word, word) for word in ("yes", "no", "on", "off", "Yes", "y", "n", "tRUE")),
        *((word, word) for word in ("1_000", "1:30", "190:20:30", "0b11", "2024-01-01", "2001-12-14 21:59:43", "=", "0x")),
        *((word, None) for word in ("null", "Null", "NULL", "~", "")),
        *((word, True) for word in ("true", "True", "TRUE")),
        *((word, False) for word in ("false", "False", "FALSE")),
        *(("012", 12), ("-7", -7), ("+5", 5), ("0o17", 15), ("0x1F", 31), ("08", 8)),
        *(("5e-4", 0.0005), ("1e3", 1000.0), (".5", 0.5), ("-.5E+1", -5.0), ("1.", 1.0), ("12e03", 12000.0)),
        *((".inf", math.inf), ("-.INF", -math.inf), ("+.Inf", math.inf)),
        *(("'null'", "null"), ('"5"', "5"), ("'1e3'", "1e3"), ('"\\u00e9"', "é"), ("a b", "a b")),
    ],
)  # fmt: skip
def test_words_and_numbers_mean_what_yaml_12_says(written: str, meant: object) -> None:
    for text in (f"a: {written}\n", f"a: [{written or 'null'}, 1]\n"):
        found = parse_yaml(text, "x.yaml")["a"]
        found = found[0] if isinstance(found, list) else found
        assert (type(found), found) == (type(meant), meant)
    assert parse_override(f"data.seed={written}") == ("data.seed", meant)


def test_not_a_number_and_keys() -> None:
    assert math.isnan(parse_yaml("a: .nan", "x.yaml")["a"])
    # Keys are texts as they are written: a variant may be called null or 0.50.
    assert parse_yaml("{null: 1, 0.50: 2, yes: 3, 'a b': 4}", "x") == {"null": 1, "0.50": 2, "yes": 3, "a b": 4}
    assert parse_yaml("# nothing", "x") is None


def test_merge_keys_lie_below_a_groups_own_keys_and_the_first_named_wins() -> None:
    text = "a: &a {p: 1, q: 2}\nb: &b {q: 3, r: 4}\nc: {q: 5, <<: *a}\nd: {<<: [*b, *a], s: 6}\ne: {'<<': 1}\n"
    found = parse_yaml(text, "x")
    assert found["c"] == {"p": 1, "q": 5} and found["d"] == {"p": 1, "q": 3, "r": 4, "s": 6} and found["e"] == {"<<": 1}
    assert list(found["c"]) == ["p", "q"]


def test_a_merge_key_in_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "schedule: {iterations: 30, batch_size: 4, learning_rate: 1e-3}\n"
        "caption: {source: null}\n"
        "model: {head: &head {kind: smp_fpn, channels: 64}, latent: vpd}\n"
        "compute: {<<: &few {cpus: 2}, num_workers: 1}\n"
    )
    recipe = load_recipe(tmp_path / "mine.yaml")
    assert (recipe.compute.cpus, recipe.compute.num_workers) == (2, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", "x.yaml: line 3, column 1: key 'a' stands here twice"),
        ("b: {a: 1, 'a': 3}\n", "x.yaml: line 1, column 11: key 'a' stands here twice"),
        ("a: &a {p: 1}\nb: {<<: *a, <<: *a}\n", "x.yaml: line 2, column 13: key '<<' stands here twice"),
        ("a: 1\nb:\n  <<: 3\n", "x.yaml: line 3, column 3: <<: expected a group of keys"),
        ("a: 1\ncompute: &c\n  cpus: *c\n", "x.yaml: line 3, column 9: *c stands inside what it refers to"),
        ("a: &a [1, {b: *a}]", "x.yaml: line 1, column 15: *a stands inside what it refers to"),
        ("a: *b", "x.yaml: line 1, column 4: *b: nothing above is called &b"),
        ("a: !!float 3", "x.yaml: line 1, column 4: the tag tag:yaml.org,2002:float means nothing here"),
        ("a: !!python/object/apply:os.system [ls]", "means nothing here"),
        ("a: 1\n---\nb: 2", "x.yaml: line 2, column 1: expected one document, found another (---)"),
        ("%YAML 1.1\n---\na: yes", "expected YAML 1.2"),
        ("? [a]\n: 1", "x.yaml: line 1, column 3: expected a word as key"),
        ("' a': 1", "key ' a': a key is not empty and has no spaces around it"),
        ("'': 1", "key '': a key is not empty"),
        ("a: [", "x.yaml: line 1, column 5: not valid YAML: while parsing a flow node"),
        ("a:\n\t- b", "x.yaml: line 2, column 1: not valid YAML"),
        ('a: "\\ud800"', "x.yaml: line 1, column 4: the character U+D800 belongs in no text"),
        ('a: "\\e[2J"', "the character U+001B belongs in no text"),
        ('a: "\\UFFFFFFFF"', "names no character"),
        ('a: "\\U00110000"', "names no character"),
        ("a: \x00", "x.yaml: not valid YAML: unacceptable character"),
        ("a: " + "9" * 5000, "x.yaml: line 1, column 4: a number of 5000 digits"),
        # Bombs: nine aliases of nine aliases of ..., and what is deep by aliases alone.
        ("a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30)), "10000 keys and"),
        ("a0: &a0 {b: x}\n" + "".join(f"a{i}: &a{i} {{b: *a{i - 1}}}\n" for i in range(1, 40)), "more than 32 groups"),
        ("[" * 100_000, "x.yaml: line 1, column 34: more than 32 groups and lists inside one another"),
        ("a: " + "{a: " * 40_000, "more than 32 groups and lists inside one another"),
        ("- " * 50_000, "more than 32 groups and lists inside one another"),
        (f"a: [{','.join(map(str, range(100_000)))}]", "more than 10000 keys and values up to here"),
        ("".join(f"k{i}: 0\n" for i in range(20_000)), "more than 10000 keys and values up to here"),
    ],
    ids=range(29),
)  # fmt: skip
def test_refusals_name_place_and_reason_at_once(text: str, said: str) -> None:
    assert said in refusal(text)


def test_files_that_are_too_large_or_no_text(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("a: " + "x" * 20_000_000)
    with pytest.raises(ConfigError, match=f"mine.yaml: more than {MAX_BYTES // 1024} KiB"):
        read_yaml(file)
    file.write_text("a: 1", encoding="utf-16")
    with pytest.raises(ConfigError, match=r"mine.yaml: expected UTF-8 text, found UTF-16; save it as UTF-8"):
        read_yaml(file)
    file.write_bytes(b"a: \xff")
    with pytest.raises(ConfigError, match="found byte 4 fits no UTF-8"):
        read_yaml(file)
    # What editors of other systems put before the first letter is no part of it.
    file.write_text("a: 1\r\nb: [x]\r\n", encoding="utf-8-sig")
    assert read_yaml(file) == {"a": 1, "b": ["x"]}


def test_a_sweep_of_too_many_places_is_refused(tmp_path: Path) -> None:
    values = ", ".join(map(str, range(1, 201)))
    (tmp_path / "sweep.yaml").write_text(f"axes: {{data.train: [{values}], data.seed: [{values}]}}")
    with pytest.raises(ConfigError, match="the axes make 40000 combinations, 10000 are the most"):
        load_sweep(tmp_path / "sweep.yaml")
    with pytest.raises(ValueError, match="100000 combinations"):
        Sweep(axes={"data.train": tuple(range(100_000))})
    (tmp_path / "sweep.yaml").write_text("axes: {caption.recall: [.nan, 0.5]}")
    with pytest.raises(ConfigError, match="axis caption.recall takes finite numbers only"):
        load_sweep(tmp_path / "sweep.yaml")


def test_what_is_written_is_read_back_as_it_was() -> None:
    words = ["yes", "012", ".5e5", "1e5", "0o17", "", "null", "~", "x: y", "#a", " a", "-", "é", "<<", "{a}", "'", '"']
    words += ["a\nb", "2024-01-01", "1:30", ".inf", "-.5", "9" * 50, "*a", "!x", "true", "word " * 60, "\u2028", "\x85"]
    numbers = [1e-6, 5e-4, -0.0, 1e22, 3, None, True, [], {}, [[1, 2], [3]], {"b": {"a": [{"c": 1}]}}]
    values = {"z": words, "a": numbers, "<<": 1, "1": 2, "null": 3, "true": {"x": 0.1}}
    text = dump_yaml(values)
    assert parse_yaml(text, "x") == values
    assert [line[0] for line in text.splitlines() if line[0].isalpha()] == ["z", "a"]
    assert (
        dump_yaml({"iterations": 10, "source": "null", "rate": 5e-4})
        == "iterations: 10\nsource: 'null'\nrate: 0.0005\n"
    )


def test_synonyms_are_read_alike(tmp_path: Path) -> None:
    file = tmp_path / "words.yaml"
    file.write_text("car: [on, no]\n")
    assert read_synonyms(file, ["car"]) == {"car": ("on", "no")}
    file.write_text("car: [a]\ncar: [b]\n")
    with pytest.raises(ConfigError, match="words.yaml: line 2, column 1: key 'car' stands here twice"):
        read_synonyms(file, ["car"])


def test_home_is_expanded_in_every_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    (home / "base.yaml").write_text("schedule: {iterations: 10, learning_rate: 5e-4}\naugment: {crop: 32}\n")
    file = tmp_path / "mine.yaml"
    file.write_text(
        "extends: ~/base.yaml\n"
        "data: {kind: folder, root: ~/photos, classes: [a, b], train: {images: a/*, masks: b/*, list: ~/l.txt}, "
        "val: {images: a/*, masks: b/*}}\n"
        "caption: {source: store, store: ~/c.jsonl, target_store: ~/t.jsonl}\n"
        "model: {weights: ~/sd, embeddings: ~/token.bin}\n"
        "compute: {storage: ~/runs}\n"
    )
    recipe = load_recipe(file)
    found = [recipe.data.root, recipe.data.train.list, recipe.caption.store, recipe.caption.target_store]
    found += [recipe.model.weights, recipe.model.embeddings, recipe.compute.storage]
    names = ("photos", "l.txt", "c.jsonl", "t.jsonl", "sd", "token.bin", "runs")
    assert list(map(str, found)) == [str(home / name) for name in names]
    assert recipe.compute.folder == home / "runs"
    given = load_recipe(
        file, ["data.root=~/x", "compute.storage='~'", "model.weights=$HOME/y", "data.train.images=~/*"]
    )
    assert (given.data.root, given.compute.folder, given.model.weights) == (home / "x", home, "$HOME/y")
    assert given.data.train.images == "~/*"
    target = "data={kind: cityscapes, root: x, target_domain: {kind: dark_zurich, root: ~/dz}}"
    assert load_recipe(file, [target]).data.target_domain.root == home / "dz"
    encoded = "caption={source: class_names, encoding: class_embeddings, embeddings: ~/v.pth}"
    assert load_recipe(file, [encoded]).caption.embeddings == home / "v.pth"
    with pytest.raises(
        ConfigError, match="nobody here is called 'no-such-user'; a folder of that name is ./~no-such-user"
    ):
        load_recipe(file, ["data.root=~no-such-user/x"])
    shipped = Path(__file__).resolve().parents[2] / "experiments/personalization/token_night.yaml"
    asked = load_personalization(shipped, ["images.files=~/n/*.jpg", "weights=~/sd"])
    assert (asked.images.files, asked.weights) == (f"{home}/n/*.jpg", f"{home}/sd")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("compute.storage=''", "compute.storage='': expected a path, found an empty text"),
        ("compute.storage=" + "a" * 300, "no file system has names of more than 255 bytes"),
        ("model.weights='  '", "model.weights='  ': expected a path"),
        ("augment.pad=yes", "augment.pad='yes': Input should be a valid boolean; YAML 1.2 has true and false alone"),
        ("schedule.iterations=1_000", "schedule.iterations='1_000': Input should be a valid integer"),
        ("schedule.iterations=true", "schedule.iterations=True: Input should be a valid integer"),
        ("schedule.iterations=1e3", "schedule.iterations=1000.0: Input should be a valid integer"),
        ("augment.flip=true", "augment.flip=True: Input should be a valid number"),
        ("augment.flip=.inf", "augment.flip=inf: Input should be a finite number"),
        ("evaluation.scales=[1, 0]", "evaluation.scales[1]=0: Input should be greater than 0"),
        ("evaluation.multi_scale=[-1]", "evaluation.multi_scale[0]=-1: Input should be greater than 0"),
        ("caption.distractors=['', ' a']", "caption.distractors[0]=''"),
        ("model.head={kind: faster_rcnn, anchors: [32, 64, 0, 256]}", "model.head.anchors[2]=0"),
        ("caption.modifiers=" + "[x, " * 20 + "]" * 20, "caption.modifiers"),
        ("data={kind: folder, root: x, classes: [a, b], ignore: [-1], train: {images: a, masks: b}, val: {images: /a/*, "
         "masks: a**/b}}", "data.val.images='/a/*': expected a glob of files below data.root"),
        ("data={kind: folder, root: x, classes: [a, b], ignore: [-1], train: {images: ., masks: ''}, val: {images: a, "
         "masks: a**/b}}", "data.ignore[0]=-1"),
    ],
)  # fmt: skip
def test_values_that_are_silently_wrong_elsewhere(tmp_path: Path, change: str, said: str) -> None:
    (tmp_path / "mine.yaml").write_text(SCHEDULE)
    with pytest.raises(ConfigError) as caught:
        load_recipe(tmp_path / "mine.yaml", [change])
    assert said in str(caught.value)
