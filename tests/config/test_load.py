"""What the vocabulary accepts and refuses, and how it says so."""

import pickle
import shlex
from pathlib import Path
from typing import Any

import pytest

from tadp_ray.api.recipes import build_recipe
from tadp_ray.config.asked import make_sweep, parse_axes
from tadp_ray.config.cell import Cell, grid, recipe_at
from tadp_ray.config.errors import ConfigError
from tadp_ray.config.load import (
    load_analysis,
    load_personalization,
    load_recipe,
    load_recipe_values,
    load_search,
    load_sweep,
)
from tadp_ray.config.recipe import Recipe
from tadp_ray.config.resolve import load_experiment

ROOT = Path(__file__).resolve().parents[2]
SCHEDULE = "schedule: {iterations: 10, learning_rate: 5e-4}\n"
TOLD = SCHEDULE + "caption: {source: oracle}\n"
CAPTIONS = "evaluation: {captions: {"


def write(path: Path, text: str) -> Path:
    """A YAML file."""
    path.write_text(text)
    return path


def refusal(path: Path, *overrides: str) -> str:
    """What is said against a recipe file."""
    with pytest.raises(ConfigError) as caught:
        load_recipe(path, overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    ("keys", "mended"),
    [
        (["source=store", "sentence='hi: you'"], [("sentence", "hi: you")]),
        # The store first, since it was named.
        (["store=x.jsonl"], [("store", None), ("oracle", None)]),
        (["source=sentence", "store=x.jsonl"], [("store", None), ("sentence", "TEXT")]),
    ],
)
def test_a_suggested_caption_is_a_valid_one(
    tmp_path: Path, keys: list[str], mended: list[tuple[str, str | None]]
) -> None:
    file = write(tmp_path / "mine.yaml", TOLD)
    said = refusal(file, *(f"caption.{key}" for key in keys))
    texts = [word for word in shlex.split(said.partition("as in ")[2].replace(",", " , ")) if "caption=" in word]
    captions = [load_recipe(file, [text]).caption for text in texts]
    assert [(caption.source, caption.sentence) for caption in captions] == mended


@pytest.mark.parametrize("text", ["a photo with {names}", "{caption}, at night"])
def test_a_sentence_is_no_template(tmp_path: Path, text: str) -> None:
    file = write(tmp_path / "mine.yaml", TOLD)
    said = refusal(file, f'caption={{source: sentence, sentence: "{text}"}}')
    assert (
        f"sentence: {text!r} is read as it stands, with its braces; for names in a sentence use source: oracle" in said
    )


def test_a_comment_on_the_command_line_is_no_part_of_a_value(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.yaml", TOLD)
    said = refusal(file, "caption.tag=house #7")
    assert said == (
        "--set caption.tag=house #7: YAML drops what follows a space and #; put the value in quotes: \"caption.tag='house #7'\""
    )
    said = refusal(file, "schedule.learning_rate=1e-3 # tuned")
    assert said.endswith("YAML drops what follows a space and #; leave it out")
    assert "leave it out" in refusal(file, "caption.tag='a #b' # c")
    assert load_recipe(file, ["caption={source: store, store: x, tag: 'house #7'}"]).caption.tag == "house #7"
    assert load_recipe(file, ["caption={source: store, store: x, tag: house#7}"]).caption.tag == "house#7"


@pytest.mark.parametrize("text", ["a {style} of {caption}", "{caption} {"])
def test_a_modifier_holds_no_other_name_in_braces(tmp_path: Path, text: str) -> None:
    said = refusal(write(tmp_path / "mine.yaml", TOLD), f'caption.modifiers=["{text}"]')
    assert f"modifiers: {text!r}: only {{caption}} is filled in; in a sweep, also the names of its axes" in said


def test_what_was_applied_is_named_where_keys_contradict_each_other(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.yaml", TOLD.replace("iterations: 10", "iterations: 100, warmup_iterations: 20"))
    warm = "schedule: warmup_iterations 20 must be below iterations 2"
    assert refusal(file, "schedule.iterations=2") == f"{file} with --set schedule.iterations=2: {warm}"
    # A key's own error names what set it alone, and a group of the command line is no file's.
    assert refusal(file, "schedule.iterations=x").startswith("--set schedule.iterations=x: schedule.iterations='x'")
    whole = "schedule={iterations: 2, warmup_iterations: 20, learning_rate: 1}"
    assert refusal(file, whole) == f"--set {whole}: {warm}"
    raw, origins = load_recipe_values(file, ["model.timestep=1"])
    with pytest.raises(ConfigError) as caught:
        recipe_at(raw, origins, {"schedule.iterations": 2, "caption.precision": 0}, "sweep s.yaml, text=all")
    assert sorted(caught.value.lines, reverse=True) == [
        f"{file} with sweep s.yaml, text=all: {warm}",
        f"{file} with sweep s.yaml, text=all: caption.precision=0: Input should be greater than 0",
    ]


@pytest.mark.parametrize(
    ("text", "read", "said"),
    [
        (
            TOLD,
            load_experiment,
            "{0} is a recipe, not an experiment: tadp-ray train {0}, or tadp-ray sweep --recipe {0} --axis",
        ),
        ("axes: {caption.recall: [1.0]}\n", load_experiment, "{0} is a sweep, not an experiment: sweep: {0} in an exp"),
        ("question: Q?\nsweep: s.yaml\n", load_recipe, "{0} is an experiment, not a recipe: tadp-ray sweep {0}"),
        (TOLD, load_sweep, "{0} is a recipe, not a sweep: "),
    ],
)
def test_a_file_of_another_kind_is_named_as_such(tmp_path: Path, text: str, read: Any, said: str) -> None:
    file = write(tmp_path / "mine.yaml", text)
    with pytest.raises(ConfigError) as caught:
        read(file)
    assert len(caught.value.lines) == 1 and str(caught.value).startswith(said.format(file))
    # A slip of the pen is no other kind.
    assert "did you mean 'caption'?" in refusal(write(file, TOLD + "captoin: {source: oracle}\n"))


def test_an_axis_without_a_list_and_one_of_the_command_line_are_named_without_pydantic_s_words(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_sweep(write(tmp_path / "sweep.yaml", "axes: {caption.recall: 1.0}\n"))
    assert str(caught.value).splitlines()[0] == f"{tmp_path}/sweep.yaml: axes.caption.recall=1.0: expected a list"
    with pytest.raises(ConfigError, match=r"^--axis: axis caption\.recall names a value twice: \[1, 1\]$"):
        make_sweep(parse_axes(["caption.recall=1,1"]))


def test_keys_of_a_union_are_named_without_pydantic_s_words(tmp_path: Path) -> None:
    text = (ROOT / "experiments/recall_analysis.yaml").read_text().replace(": ../sweeps", f": {ROOT}/sweeps")
    text = text.replace(": recipes/", f": {ROOT}/experiments/recipes/")
    with pytest.raises(ConfigError) as caught:
        load_experiment(write(tmp_path / "mine.yaml", text.replace("{pocket: recorded, paper: similar}", "exactly")))
    place = f"{tmp_path}/mine.yaml: figure.match='exactly': "
    assert all(line.startswith(place) for line in caught.value.lines), caught.value


def test_a_key_that_another_backbone_needs_is_missing_in_the_file_that_names_the_backbone(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", TOLD + "model: {weights: pocket, head: {channels: 16}}\n")
    write(tmp_path / "own.yaml", "extends: base.yaml\nmodel: {backbone: stable_diffusion_xl, timestp: 1}\n")
    own = tmp_path / "own.yaml"
    missing, unknown = sorted(refusal(write(tmp_path / "mine.yaml", "extends: own.yaml\n")).splitlines(), key=len)[::-1]
    named = f"{own} (another backbone than that of base.yaml starts the group anew)"
    assert missing == f"{named}: model.weights: this key is required"
    assert unknown.startswith(f"{own}: model.timestp=1: unknown key")
    text = "--set model={backbone: stable_diffusion_xl}"
    assert f"{text}: model.weights: this key is required" in refusal(
        tmp_path / "base.yaml", text.removeprefix("--set ")
    )


def test_every_shipped_file_loads_and_names_its_schema() -> None:
    """Recipes, sweeps and experiments are valid, and editors know how to check them."""
    experiments = sorted((ROOT / "experiments").glob("*.yaml"))
    analyses = sorted((ROOT / "experiments/analyses").glob("*.yaml"))
    recipes = sorted((ROOT / "experiments/recipes").rglob("*.yaml"))
    searches = sorted((ROOT / "sweeps").glob("search_*.yaml"))
    sweeps = sorted({*(ROOT / "sweeps").glob("*.yaml")} - {*searches})
    assert len(experiments) >= 1 and len(recipes) >= 4 and len(sweeps) >= 1 and searches and len(analyses) >= 4
    loads = {load_experiment: experiments, load_recipe: recipes, load_sweep: sweeps, load_search: searches}
    loads[load_analysis] = analyses
    loads[load_personalization] = sorted((ROOT / "experiments/personalization").glob("*.yaml"))
    every = [*(ROOT / "experiments").rglob("*.yaml"), *(ROOT / "sweeps").rglob("*.yaml")]
    assert sorted(file for files in loads.values() for file in files) == sorted(every) and len(every) >= 50
    for load, files in loads.items():
        for file in files:
            load(file)
            first = file.read_text().splitlines()[0]
            assert first.startswith("# yaml-language-server: $schema=")
            assert (file.parent / first.partition("=")[2]).resolve().is_file(), first


def test_all_errors_at_once_with_file_key_value_and_nearest_name(tmp_path: Path) -> None:
    """One run of the command shows everything that is wrong with a file."""
    base = write(tmp_path / "base.yaml", SCHEDULE + "model: {timestep: 2000}\n")
    file = write(
        tmp_path / "mine.yaml", "extends: base.yaml\ncaption: {source: oracle, recal: 1, precision: 1.5}\nmodl: {}\n"
    )
    lines = refusal(file, "model.latent=means").splitlines()
    assert len(lines) == 5
    text = "\n".join(lines)
    assert f"{file}: caption.recal=1: unknown key; did you mean 'recall'?" in text
    assert f"{file}: caption.precision=1.5: Input should be less than or equal to 1" in text
    assert f"{file}: modl: unknown key; did you mean 'model'?" in text
    assert f"{base}: model.timestep=2000: Input should be less than 1000" in text
    assert "--set model.latent=means: model.latent='means': expected ls, vpd, or a group of draw and scale" in text


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("probe", "model.trainable: unknown kind 'probe'; expected one of 'full', 'frozen', 'attention_only', 'lora'"),
        ("{rank: 2}", "model.trainable: the key 'kind' is required here"),
        (
            "{kind: frozen, targets: [to_q]}",
            "model.trainable: targets: ['to_q'] belongs to kind: lora, but kind is frozen",
        ),
        (
            "{kind: full, rank: 4}",
            "model.trainable: rank: 4 belongs to kind: lora, but kind is full; leave it out, or set",
        ),
        ("{kind: lora, rank: 0}", "model.trainable.rank=0: Input should be greater than or equal to 1"),
        ("{kind: lora, targets: []}", "model.trainable.targets=(): needs at least 1 item"),
        ("{kind: lora, ranks: 2}", "model.trainable.ranks=2: unknown key; did you mean 'rank'?"),
    ],
)
def test_what_is_trained_is_a_name_or_a_group_that_fits(tmp_path: Path, value: str, said: str) -> None:
    file = write(tmp_path / "mine.yaml", SCHEDULE + "caption: {source: oracle}\n")
    assert load_recipe(file, ["model.trainable=lora"]) == load_recipe(file, ["model.trainable.kind=lora"])
    chosen = load_recipe(file, ["model.trainable={kind: lora, rank: 2, alpha: 3, targets: [to_q, conv_in]}"]).model
    found = (chosen.trainable.rank, chosen.trainable.alpha, chosen.trainable.targets)
    assert found == (2, 3.0, ("to_q", "conv_in"))
    assert said in refusal(file, f"model.trainable={value}")


@pytest.mark.parametrize(
    ("short", "key", "value", "whole"),
    [
        ("latent: vpd", "latent.draw", "sample", {"draw": "sample", "scale": "raw"}),
        ("trainable: lora", "trainable.rank", 2, {"kind": "lora", "rank": 2}),
        ("trainable: lora", "trainable.kind", "full", {"kind": "full"}),
        ("context: odise", "context.join", "concatenate", {"join": "concatenate", "sources": ("text", "image")}),
    ],
)
def test_a_key_refines_what_a_short_form_stands_for(
    tmp_path: Path, short: str, key: str, value: Any, whole: dict[str, Any]
) -> None:
    """By an override, a file that extends, Python and an axis beside another that sets the short form."""
    text = f"model: {{{short}}}\n"
    base, (group, inner) = write(tmp_path / "base.yaml", TOLD + text), key.split(".")
    child = write(tmp_path / "child.yaml", f"extends: base.yaml\nmodel: {{{group}: {{{inner}: {value}}}}}\n")
    axes = f"axes: {{by: {{a: {{model.{short}}}}}, model.{key}: [{value}]}}\n"
    sweep = load_sweep(write(tmp_path / "sweep.yaml", axes))
    raw, origin = load_recipe_values(write(tmp_path / "plain.yaml", TOLD))
    found = [
        load_recipe(base, [f"model.{key}={value}"]),
        load_recipe(child),
        build_recipe(base, model={group: {inner: value}}),
        recipe_at(raw, origin, sweep.changes(grid(sweep)[0]), "sweep"),
    ]
    for recipe in found:
        chosen = getattr(recipe.model, group)
        kinds = {"sources": chosen.kinds} if group == "context" else {}
        assert chosen.model_dump(include=set(whole)) | kinds == whole


def test_null_is_a_word_for_a_caption_source(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.yaml", SCHEDULE + "caption: {source: null}\n")
    assert load_recipe(file).caption.source == load_recipe(file, ["caption.source=null"]).caption.source == "null"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("schedule: {iterations: '10', learning_rate: 1e-3}", "schedule.iterations='10': Input should be a valid integer"),
        ("schedule: {iterations: yes, learning_rate: 1e-3}", "schedule.iterations='yes': Input should be a valid integer"),
        ("schedule: {iterations: 10, learning_rate: .nan}", "schedule.learning_rate=nan"),
        ("schedule: {iterations: 10}", "schedule.learning_rate: this key is required"),
        (SCHEDULE + "caption: {source: oracle, precision: 0}", "caption.precision=0: Input should be greater than 0"),
        (SCHEDULE + "caption: {source: 'null', recall: 0.5}", "degrade oracle and template captions only"),
        (SCHEDULE + "caption: {source: oracle, wording: long}", "is for template captions only, but source is oracle"),
        (SCHEDULE + "caption: {source: oracle, tag: scene}", "tag: scene chooses a caption of a store, but source is oracle"),
        (
            SCHEDULE + "caption: {source: template, wording: long}\ndata: {kind: nyuv2, root: x}\naugment: {crop: 32}\n"
            "model: {weights: pocket}",
            "caption.wording: long tells more than names, which data.kind: nyuv2 does not know; use short",
        ),
        (TOLD + CAPTIONS + "x: {sorce: 'null'}}}", "evaluation.captions.x.sorce='null': unknown key; did you mean 'source'?"),
        (TOLD + CAPTIONS + "data: {sorce: 'null'}}}", "evaluation.captions.data.sorce='null': unknown key"),
        (
            TOLD + "model: {backbone: pixart, weights: x, unet_init: random}",
            "model.unet_init='random': unknown key; only backbone: stable_diffusion or stable_diffusion_xl has it",
        ),
        (TOLD + CAPTIONS + "x: {source: 'null', recall: 0.5}}}", "evaluation.captions.x: precision and recall degrade"),
        (TOLD + CAPTIONS + "a/b: {source: 'null'}}}", "captions: 'a/b' becomes part of a metric's name; use up to 60 letters"),
        (TOLD + CAPTIONS + "multi_scale: {source: 'null'}}}", "and not multi_scale"),
        (
            TOLD + CAPTIONS + "x: {source: store, store: a.jsonl, target_store: b.jsonl}}}",
            "captions: x: target_store='b.jsonl': all its images are evaluation images; name the file as store",
        ),
        (TOLD + CAPTIONS + "x: {source: 'null', modifiers_apply: eval}}}", "captions: x: modifiers_apply=eval: all its images"),
        (
            TOLD + CAPTIONS + "night: {source: 'null'}}}\ndata: {kind: scenes, extra_styles: [night]}",
            "evaluation.captions: 'night' is one of data.extra_styles, too, and both would be miou/night; rename the captions",
        ),
        (
            TOLD + CAPTIONS + "x: {source: template, wording: long}}}\ndata: {kind: nyuv2, root: x}\naugment: {crop: 32}\n"
            "model: {weights: pocket}",
            "evaluation.captions.x.wording: long tells more than names, which data.kind: nyuv2 does not know",
        ),
        (
            SCHEDULE + "caption: {source: class_names, shuffle: true}",
            "shuffle: orders oracle, template and store captions only, but source is class_names",
        ),
        (
            SCHEDULE + "caption: {source: class_names, templates: single}",
            "templates: single is for encoding: class_embeddings only, not text",
        ),
        (
            SCHEDULE + "caption: {source: store}",
            "source: store needs a caption file; name it as store, as in --set caption.store=FILE",
        ),
        (SCHEDULE + "caption: {source: 'null', store: x.jsonl}", "--set 'caption={source: null}'"),
        (SCHEDULE, "caption: this key is required"),
        (SCHEDULE + "caption: {shuffle: true}", "caption.source: this key is required"),
        (
            TOLD + "data: {kind: ade20k, root: x}\naugment: {crop: 32}",
            "data.kind: ade20k needs model.weights to be stated: a Stable Diffusion, or pocket if that is meant",
        ),
        (TOLD + "data: {kind: folders}", "unknown kind 'folders'; expected one of 'scenes', 'folder'"),
        (TOLD + "compute: {num_train_workers: 3}", "must be a multiple of compute.num_train_workers 3"),
        (TOLD + "compute: {storage: 's3://key:secret@bucket/runs'}", "compute.storage: holds a password, a key"),
        (TOLD + "data: {kind: folder, root: 'https://me:secret@host/x'}", "data.root: holds a password, a key"),
        (TOLD + "compute: {gpus: 1.5}", "a worker has whole GPUs, or a share of one"),
        (TOLD + "compute: {compile: true, gradient_checkpointing: true}", "gradient_checkpointing do not go together"),
        (TOLD + "compute: {num_train_workers: 2, gpus: 0.5}", "NCCL joins no two processes on one GPU"),
        (SCHEDULE + SCHEDULE, "'schedule' stands here twice"),
        ("- 1", "expected keys and values, found a list"),
        ("a: [", "not valid YAML"),
        (SCHEDULE + "caption: [oracle]", "mine.yaml: caption=['oracle']: expected a group of keys"),
        (TOLD + "model: x", "mine.yaml: model='x': expected a group of keys"),
        (TOLD + "evaluation: {scales: 1}", "mine.yaml: evaluation.scales=1: expected a list"),
        (TOLD + "evaluation: {scales: []}", "mine.yaml: evaluation.scales=[]: needs at least 1 item"),
        (TOLD + "augment: {scale: [1, 2, 3]}", "mine.yaml: augment.scale=[1, 2, 3]: needs at most 2 items"),
        (TOLD + "augment: {crop: 64, pad_to: 32}", "augment: pad_to 32 must not be below crop 64, since padding does not"),
        (TOLD + "augment: {crop: 32, stretch: 96, pad_to: 64}", "augment: pad_to 64 must not be below stretch 96"),
        ("extends: nothing.yaml", "mine.yaml: extends='nothing.yaml': no such file"),
        ("extends: " + "a/" * 9000, "no such file"),
        ("extends: ''", "extends='': expected a path, found an empty text"),
        ("extends: mine.yaml", "the chain comes back to this file"),
    ],
)  # fmt: skip
def test_refusals(tmp_path: Path, text: str, said: str) -> None:
    """Each kind of mistake has its message."""
    assert said in refusal(write(tmp_path / "mine.yaml", text))


@pytest.mark.parametrize(
    "address",
    [
        "s3://AKIA:gehe/im+@bucket/runs",
        "s3://bucket/runs?access_key=AKIA&secret_key=geheim",
        "gs://bucket?credential_json=geheim",
        "abfs://runs@account.dfs.core.windows.net/?sig=geheim",
    ],
)
def test_an_address_with_a_secret_is_refused_without_telling_it(tmp_path: Path, address: str) -> None:
    """In a file, by an override, as an axis's value, and where something else is wrong with it, too."""
    good = write(tmp_path / "good.yaml", TOLD)
    bad = write(tmp_path / "bad.yaml", TOLD + f"compute: {{storage: '{address}'}}\n")
    said = refusal(bad), refusal(good, f"compute.storage={address}"), refusal(good, f"model.weights={address}")
    for line in said:
        assert "holds a password, a key or a token" in line and "give it by the environment" in line
    axis = write(tmp_path / "sweep.yaml", f"axes: {{model.weights: [pocket, '{address}']}}\n")
    with pytest.raises(ConfigError, match=r"sweep.yaml: axes.model.weights\[1\]: holds") as error:
        load_sweep(axis)
    strange = refusal(good, f"compute.storag={address}"), refusal(good, f"compute={address}")
    for line in (*said, *strange, str(error.value), *error.value.lines):
        assert "geh" not in line and "AKIA" not in line


def test_overrides_are_typed_and_checked(tmp_path: Path) -> None:
    """--set takes YAML values for keys that exist."""
    file = write(tmp_path / "mine.yaml", TOLD)
    recipe = load_recipe(file, ["schedule.learning_rate=2e-4", "augment.scale=[0.5, 2]", "caption.shuffle=true"])
    assert (recipe.schedule.learning_rate, recipe.augment.scale, recipe.caption.shuffle) == (2e-4, (0.5, 2.0), True)
    assert "did you mean 'learning_rate'?" in refusal(file, "schedule.lerning_rate=1")
    assert "expected key=value" in refusal(file, "schedule.iterations")
    scored = load_recipe(file, ["evaluation.captions.right.source=oracle", "evaluation.captions.right.recall=0.5"])
    assert (scored.evaluation.captions["right"].source, scored.evaluation.captions["right"].recall) == ("oracle", 0.5)
    assert "did you mean 'source'?" in refusal(file, "evaluation.captions.right.sauce=oracle")
    assert "'task' is a single value" in refusal(file, "task.name=1") or "is a single value" in refusal(
        file, "task.name=1"
    )


def test_extending_with_another_kind_of_data_replaces_the_group(tmp_path: Path) -> None:
    """A folder recipe that extends the pocket recipe does not inherit the scenes' keys."""
    write(tmp_path / "base.yaml", TOLD + "data: {kind: scenes, train: 7}\nmodel: {weights: pocket, timestep: 3}\n")
    folder = "{kind: folder, root: x, train: {images: a, masks: b}, val: {images: c, masks: d}, classes: [e, f]}"
    recipe = load_recipe(write(tmp_path / "mine.yaml", f"extends: base.yaml\ndata: {folder}\naugment: {{crop: 32}}\n"))
    assert recipe.data.kind == "folder" and recipe.model.timestep == 3


def test_extending_with_the_default_kind_spelled_out_changes_nothing_else(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", TOLD + "model: {weights: pocket, feature_norm: true, head: {channels: 16}}\n")
    spelled = "model: {backbone: stable_diffusion, adapter: true, head: {kind: semantic_fpn, dropout: 0.5}}\n"
    model = load_recipe(write(tmp_path / "mine.yaml", f"extends: base.yaml\n{spelled}")).model
    assert (model.adapter, model.feature_norm, model.head.dropout, model.head.channels) == (True, True, 0.5, 16)


def test_axes_must_be_recipe_keys_and_their_values_must_be_valid(tmp_path: Path) -> None:
    """A sweep that names a key which does not exist, or a value out of range, says so."""
    with pytest.raises(ConfigError, match="did you mean 'precision'"):
        load_sweep(write(tmp_path / "sweep.yaml", "axes: {caption.precison: [1.0]}"))
    sweep = load_sweep(write(tmp_path / "sweep.yaml", "axes: {caption.precision: [1.0, 0]}"))
    raw, origin = load_recipe_values(write(tmp_path / "mine.yaml", TOLD))
    with pytest.raises(
        ConfigError, match=r"mine\.yaml with sweep s\.yaml: caption\.precision=0: Input should be greater"
    ):
        recipe_at(raw, origin, sweep.changes(grid(sweep)[1]), "sweep s.yaml")


VARIANTS = """\
axes:
  method:
    no text: {caption.source: "null", model.adapter: true}
    oracle: {}
  schedule.iterations: [100, 200]
"""


def test_variants_are_named_groups_of_recipe_keys(tmp_path: Path) -> None:
    sweep = load_sweep(write(tmp_path / "sweep.yaml", VARIANTS))
    points = grid(sweep)
    assert len(points) == 4 and points[1] == {"method": "no text", "schedule.iterations": 200}
    raw, origin = load_recipe_values(write(tmp_path / "mine.yaml", TOLD))
    plain, changed = (recipe_at(raw, origin, sweep.changes(points[k]), "axes") for k in (2, 1))
    assert changed.caption.source == "null" and changed.model.adapter and changed.schedule.iterations == 200
    assert plain.caption.source == "oracle" and not plain.model.adapter
    twice = VARIANTS + "  caption.source: [oracle]\n"
    with pytest.raises(ConfigError, match=r"caption\.source is set by 2 axes"):
        load_sweep(write(tmp_path / "sweep.yaml", twice))
    with pytest.raises(ConfigError, match="did you mean 'adapter'"):
        load_sweep(write(tmp_path / "sweep.yaml", VARIANTS.replace("adapter", "adaptor")))


def test_the_caption_in_a_modifier_is_no_axis(tmp_path: Path) -> None:
    night = 'caption.modifiers: ["a {style} photo of a {caption}"]'
    axes = f"axes: {{caption: {{oracle: {{}}}}, style: {{night: {{}}}}, how: {{modified: {{{night}}}}}}}\n"
    sweep = load_sweep(write(tmp_path / "sweep.yaml", axes))
    assert sweep.changes(grid(sweep)[0]) == {"caption.modifiers": ["a night photo of a {caption}"]}


@pytest.mark.parametrize("name", ["metric", "experiment", "seed", "state", "loss", "miou", "best_miou", "iou/road"])
def test_an_axis_is_not_called_like_a_result(tmp_path: Path, name: str) -> None:
    """It would hide the result, or the result it."""
    file = write(tmp_path / "sweep.yaml", VARIANTS.replace("method:", f"{name}:"))
    with pytest.raises(
        ConfigError, match=rf"sweep\.yaml: axes: {name}: results have something else of this name; rename"
    ):
        load_sweep(file)


@pytest.mark.parametrize(
    ("axes", "fits"),
    [
        ("{caption.precision: [0.5, 1.0], text: {none: {caption: {source: 'null'}}, oracle: {}}}", False),
        ("{text: {none: {caption.recall: 0.5, caption: {source: 'null'}}, oracle: {}}}", False),
        ("{text: {half: {caption: {source: oracle}, caption.recall: 0.5}, oracle: {}}}", True),
        (
            "{text: {words: {caption: {source: oracle}}, none: {caption: {source: 'null'}}}, caption.recall: [0.5, 1.0]}",
            True,
        ),
        ("{text: {none: {caption: {source: 'null'}}, half: {caption.recall: 0.5}}}", True),
        ("{caption.precision: [0.5, 1.0], data.train: [10, 20]}", True),
    ],
)
def test_a_group_is_set_before_a_key_in_it(tmp_path: Path, axes: str, fits: bool) -> None:
    """It would replace the key, whose value stands in the table."""
    file = write(tmp_path / "sweep.yaml", f"axes: {axes}\n")
    if fits:
        assert len(grid(load_sweep(file))) in (2, 4)
        return
    with pytest.raises(ConfigError, match=r"caption\.\w+ is set before its group caption, which would replace it"):
        load_sweep(file)


def test_a_missing_file_is_told_with_its_neighbours_but_for_hidden_ones(tmp_path: Path) -> None:
    write(tmp_path / ".pre-commit-config.yaml", "")
    with pytest.raises(ConfigError, match=r"mine\.yaml: no such file; tadp-ray ls lists the shipped ones$"):
        load_recipe(tmp_path / "mine.yaml")
    write(tmp_path / "mines.yaml", "")
    with pytest.raises(ConfigError, match=r"mine\.yaml: no such file; did you mean 'mines\.yaml'\?$"):
        load_recipe(tmp_path / "mine.yaml")


def test_published_numbers_must_fit_the_grid(tmp_path: Path) -> None:
    """A table with a row too few is refused."""
    text = (ROOT / "experiments/prec_recall.yaml").read_text().replace("      - [50.20, 54.82, 63.29]\n", "")
    text = text.replace("../sweeps", str(ROOT / "sweeps"))
    with pytest.raises(ConfigError, match="expected 3 rows of 3 numbers"):
        load_experiment(write(tmp_path / "experiment.yaml", text))


def test_every_axis_stands_once_in_the_table(tmp_path: Path) -> None:
    text = (ROOT / "experiments/pocket_controls.yaml").read_text().replace("../sweeps", str(ROOT / "sweeps"))
    with pytest.raises(ConfigError, match="every axis of .* must be named once"):
        load_experiment(
            write(tmp_path / "experiment.yaml", text.replace("[model.unet_init, data.train]", "[data.train]"))
        )
    with pytest.raises(ConfigError, match="'data.trian': not an axis of .* did you mean 'data.train'"):
        load_experiment(write(tmp_path / "experiment.yaml", text.replace("data.train", "data.trian")))


def cell(**changes: object) -> Cell:
    """A cell of a small recipe."""
    given = {"caption": {"source": "oracle"}, "schedule": {"iterations": 10, "learning_rate": 1e-3}}
    recipe = {**given, **changes.pop("recipe", {})}  # type: ignore[dict-item]
    values = {"experiment": "e", "seed": 0, "axes": {}, "digests": {"train": "a"}, **changes}
    return Cell(recipe=Recipe.model_validate(recipe), **values)


def test_fingerprint_holds_all_that_changes_a_result_and_nothing_else() -> None:
    """Another setting, seed or content is another cell; another place, name or machine is the same one."""
    same = [
        cell(experiment="other", axes={"caption.recall": 1.0}),
        cell(recipe={"compute": {"num_train_workers": 2, "storage": "/elsewhere"}}),
        cell(recipe={"model": {"weights": "somewhere/else"}}),
    ]
    other = [
        cell(seed=1),
        cell(digests={"train": "b"}),
        cell(recipe={"model": {"timestep": 2}}),
        cell(recipe={"caption": {"source": "oracle", "recall": 0.5}}),
        cell(recipe={"schedule": {"iterations": 10, "learning_rate": 1e-3, "micro_batch": 8}}),
    ]
    assert {c.fingerprint for c in same} == {cell().fingerprint}
    assert len({c.fingerprint for c in (cell(), *other)}) == len(other) + 1
    # Pinned: a change of this value orphans every cell that users have trained.
    assert cell().fingerprint == Cell.model_validate_json(cell().model_dump_json()).fingerprint


def test_an_error_of_many_lines_arrives_whole_from_another_process() -> None:
    error = ConfigError(["a.yaml: x=1: no", "a.yaml: y=2: no"])
    arrived = pickle.loads(pickle.dumps(error))
    assert (type(arrived), arrived.lines, str(arrived)) == (ConfigError, error.lines, str(error))
