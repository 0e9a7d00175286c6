"""A package outside (docs/plugin) adds one of each kind, and cells are trained with them; what registers wrongly is refused."""

import csv
import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from tadp_ray.layout import PER_IMAGE
from tadp_ray.plugins import BUILT_IN, root_of
from tadp_ray.tasks.per_image import read_per_image

ROOT = Path(__file__).resolve().parents[1]
RECIPE = """\
task: normals
data: {kind: ramps, train: 16, val: 6}
caption: {source: "null"}
model: {backbone: plain_conv, width: 8, levels: 3, head: {kind: normals_conv, channels: 16}}
schedule: {iterations: 20, batch_size: 8, learning_rate: 0.003}
compute: {storage: runs}
"""
EXPERIMENT = """\
question: Does a wider network see how planes are tilted?
recipes: {pocket: recipe.yaml}
sweep: sweep.yaml
seeds: [0]
table: {title: Normals, metrics: [mean_angle], rows: [model.width], columns: [model.levels]}
"""
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the package outside is installed into."""
    folder = tmp_path_factory.mktemp("plugin")
    # Building leaves files beside the source.
    shutil.copytree(ROOT / "docs/plugin", folder / "source")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(folder / "site"), str(folder / "source")], check=True)
    return folder / "site"


@pytest.fixture
def run(installed: Path, tmp_path: Path) -> Run:
    """Runs Python in a folder of its own, the package outside at hand."""
    paths = os.pathsep.join([str(installed), str(ROOT), os.environ.get("PYTHONPATH", "")])

    def start(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return start


COMMAND = ("-c", "from tadp_ray.cli import app; app()")


@pytest.mark.cluster
def test_a_sweep_of_another_backbone_task_and_data_set_fills_a_table(run: Run, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "sweep.yaml").write_text("axes: {model.width: [4, 8], model.levels: [3]}\n")
    (tmp_path / "normals.yaml").write_text(EXPERIMENT)
    said = run(*COMMAND, "sweep", "normals.yaml")
    assert "mean angle to the true normal (degrees)" in said.stdout + said.stderr
    (table,) = tmp_path.glob("runs/**/table.csv")
    with table.open(encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert [row["row"] for row in rows] == ["4", "8"]
    assert all(10 < float(row["mean"]) < 45 for row in rows), rows
    # Bold is the lowest, as the metric is registered.
    best = min(rows, key=lambda row: float(row["mean"]))
    assert f"| {best['row']} | **{float(best['mean']):.1f}** |" in table.with_name("table.md").read_text()


TRAIN = """\
import json, sys
from pathlib import Path
import torch
from tadp_ray.sweep.planning import plan_one
from tadp_ray.training.provenance import provenance
from tadp_ray.training.run import train_cell
cell = plan_one(Path(sys.argv[1]), [], 0).cells[0]
metrics = train_cell(cell, torch.device("cpu"))
facts = {"folder": str(cell.folder), "fingerprint": cell.fingerprint, "ground_truth": cell.uses_ground_truth}
print(json.dumps({**facts, "metrics": metrics, "provenance": provenance()}))
"""


def write_recipe(folder: Path, model: str) -> None:
    """Write the recipe of a model with the captions of the package outside."""
    (folder / "recipe.yaml").write_text(
        "data: {kind: scenes, train: 8, val: 4}\n"
        "caption: {source: first_name, encoding: without_padding}\n"
        "schedule: {iterations: 2, batch_size: 4, learning_rate: 0.003}\n"
        f"model: {model}\n"
    )


def told(run: Run, tmp_path: Path, model: str) -> dict[str, Any]:
    """Train a cell of a model with the captions of the package outside, and return what is known of it."""
    write_recipe(tmp_path, model)
    return json.loads(run("-c", TRAIN, "recipe.yaml").stdout.splitlines()[-1])


@pytest.mark.slow
def test_a_cell_is_told_by_another_source_and_scored_by_another_metric(run: Run, tmp_path: Path) -> None:
    """And through another encoding: rows behind the one word, between a mark before it and one behind it, are zeros."""
    facts = told(run, tmp_path, "{head: {channels: 16}}")
    contexts = [
        context for file in tmp_path.glob("runs/contexts/**/*.safetensors") for context in load_file(file).values()
    ]
    assert contexts and all(context.any(-1).sum() == 3 and context[:3].any(-1).all() for context in contexts)
    assert facts["ground_truth"] and facts["provenance"]["tadp.version.tadp-more"] == "1.0"
    images = read_per_image(Path(facts["folder"]) / PER_IMAGE, facts["fingerprint"])
    assert all(image["prompt"] and " " not in image["prompt"] for image in images.images)
    truth, right, union = (images.areas(name).sum(0) for name in ("truth", "intersection", "union"))
    iou = np.divide(right, union, out=np.zeros_like(right), where=union > 0)
    assert facts["metrics"]["frequency_iou"] == pytest.approx(100 * (truth / truth.sum() * iou).sum())


GIVEN = """\
import sys
from pathlib import Path
from tadp_ray.sweep.planning import plan_one
from tadp_ray.training.any_image import given_prompt
from tadp_ray.training.setup import TrainSetup
print([given_prompt(TrainSetup(plan_one(Path("recipe.yaml"), [], 0).cells[0].recipe, 0), sys.argv[1])])
"""


@pytest.mark.slow
def test_a_prompt_of_another_encoding_of_texts_is_a_text(run: Run, tmp_path: Path) -> None:
    write_recipe(tmp_path, "{head: {channels: 16}}")
    assert run("-c", GIVEN, "a cow, and grass").stdout == "['a cow, and grass']\n"


@pytest.mark.slow
def test_a_backbone_is_told_by_another_context_source(run: Run, tmp_path: Path) -> None:
    facts = told(run, tmp_path, "{context: {sources: [text, mean_colour]}, head: {channels: 16}}")
    weights = load_file(Path(facts["folder"]) / "model.safetensors")
    assert weights["context.sources.mean_colour.weight"].shape == (64, 3)
    # A channel for each of 77 tokens, and one for the colour.
    assert weights["head.neck.lateral_convs.1.conv.weight"].shape[1] == 64 + 78


@pytest.mark.slow
def test_another_task_is_kept_by_image_and_beats_a_constant_guess(run: Run, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("iterations: 20", "iterations: 60"))
    facts = json.loads(run("-c", TRAIN, "recipe.yaml").stdout.splitlines()[-1])
    lines = (Path(facts["folder"]) / PER_IMAGE).read_text().splitlines()[1:]
    angles = [json.loads(line)["angle"] for line in lines]
    assert facts["metrics"]["mean_angle"] == pytest.approx(np.mean(angles)) and len(angles) == 6
    # Towards the camera everywhere is wrong by 27 degrees on these six planes.
    assert facts["metrics"]["mean_angle"] < 24


@pytest.mark.slow
def test_a_backbone_that_reads_no_text_is_told_none(run: Run, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace('source: "null"', "source: first_name"))
    said = run("-c", TRAIN, "recipe.yaml", code=1)
    assert "UserError: model.backbone=plain_conv: reads no text; set caption.source: null" in said.stderr


@pytest.mark.cluster
def test_another_captioner_is_a_command(run: Run, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name, level in (("night", 20), ("noon", 220)):
        Image.fromarray(np.full((8, 8, 3), level, np.uint8)).save(tmp_path / f"images/{name}.png")
    assert "brightness" in run(*COMMAND, "caption", "--help").stdout
    run(*COMMAND, "caption", "brightness", "images", "--out", "store.jsonl")
    header, *lines = map(json.loads, (tmp_path / "store.jsonl").read_text().splitlines())
    assert [line["captions"] for line in lines] == [["a dark picture"], ["a bright picture"]]


DEFAULT = """
from typing import Literal
from tadp_ray.config.vocabulary import StrictModel
from tadp_ray.registry import register_dataset
@register_dataset("mine", "mine:Mine")
class Mine(StrictModel):
    kind: Literal["mine"] = "mine"
"""
BROKEN = {
    "a default": (DEFAULT, "cannot be loaded (TypeError: Mine.kind must have no default); mend or uninstall it"),
    "no hash": (
        DEFAULT.replace(' = "mine"', "\n    colours: tuple[list[int], ...] = ()"),
        "cannot be loaded (TypeError: Mine.colours must be hashable, since caches are looked up by it; declare a tuple, not a "
        "list); mend or uninstall it",
    ),
    "cannot be loaded": (
        "raise OSError('no licence')",
        "plug-in more of the package tadp-more cannot be loaded (OSError: no licence",
    ),
    "a name twice": (
        "from tadp_ray.registry import register_published_dataset as r; r('ade20k', 'a:b')",
        "data set 'ade20k' is registered by tadp_ray and by the package tadp-more; rename or uninstall one",
    ),
    "another meaning": (
        "from tadp_ray.registry import Metric, register_metric as r; r('depth', Metric('miou', lower_is_better=True))(1)",
        "metric 'miou' is registered twice with different meanings; rename one",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_package_that_registers_wrongly_is_named(case: str, run: Run, installed: Path, tmp_path: Path) -> None:
    code, said = BROKEN[case]
    # Stands before the installed one on the path; its metadata are the same.
    (tmp_path / "tadp_more.py").write_text(code)
    done = run("-c", "import tadp_ray.config.recipe", code=1)
    assert said in done.stderr.splitlines()[-1]


FEW = """\
from tadp_ray.captions.sources import Captions
from tadp_ray.registry import register_caption_source
@register_caption_source("few", "a prompt for one image")
def few(request):
    return Captions({next(iter(request.present)): "a cow"})
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [["--dry-run"], []])
def test_a_source_that_leaves_images_out_trains_nothing(how: list[str], run: Run, tmp_path: Path) -> None:
    (tmp_path / "tadp_more.py").write_text(FEW)
    (tmp_path / "recipe.yaml").write_text(
        "data: {kind: scenes, train: 8, val: 4}\ncaption: {source: few}\n"
        "schedule: {iterations: 2, batch_size: 4, learning_rate: 0.003}\n"
    )
    done = run(*COMMAND, "train", "recipe.yaml", *how, code=2)
    assert "caption source 'few': no prompt for 7 images: 'train" in done.stderr
    assert not (tmp_path / "runs/cells").exists()


def test_edited_code_of_the_same_version_is_other_code(run: Run, installed: Path, tmp_path: Path) -> None:
    code = "import json; from tadp_ray.training.provenance import code_of, provenance; print(json.dumps(code_of(provenance())))"
    before = json.loads(run("-c", code).stdout)
    # Stands before the installed one on the path; its metadata are the same.
    shutil.copytree(installed / "tadp_more", tmp_path / "tadp_more")
    assert json.loads(run("-c", code).stdout) == before, "a copy elsewhere is the same code"
    with (tmp_path / "tadp_more/normals/head.py").open("a") as file:
        file.write("# edited\n")
    after = json.loads(run("-c", code).stdout)
    assert {name for name in after if after[name] != before[name]} == {"code.tadp-more"}


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--help"], "picture"),
        (["ls", "searches"], "search_learning_rate"),
        (["caption", "blip", "--help"], "--max-tokens"),
        (["picture", "gains", "--help"], "--against"),
        (["schema", "schemas"], ""),
        (["score", "--help"], ""),
        (["picture", "depth", "--help"], ""),
        (["caption", "--help"], ""),
    ],
)
def test_a_broken_package_stops_only_what_needs_plug_ins(
    words: list[str], shown: str, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "tadp_more.py").write_text("import nothere")
    done = run(*COMMAND, *words, code=0 if shown else 2)
    told = "error: plug-in more of the package tadp-more cannot be loaded (ModuleNotFoundError: No module named 'nothere'); "
    assert done.stderr == ("" if shown else f"{told}mend or uninstall it\n") and shown in done.stdout


@pytest.mark.parametrize("module", BUILT_IN)
def test_a_module_that_registers_may_be_imported_first(module: str) -> None:
    code = f"import {module}; from tadp_ray.config.recipe import Recipe; from tadp_ray.registry import HEADS; print(*HEADS)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert sorted(done.stdout.split()) == ["faster_rcnn", "semantic_fpn", "smp_fpn", "vpd_depth"]


def test_the_code_of_a_plug_in_is_its_outermost_regular_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other distributions share a namespace package."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "shared_by_many/mine/inner").mkdir(parents=True)
    (tmp_path / "shared_by_many/mine/__init__.py").touch()
    (tmp_path / "shared_by_many/mine/inner/__init__.py").touch()
    (tmp_path / "one_file.py").touch()
    for module in ("shared_by_many.mine.inner", "one_file"):
        importlib.import_module(module)
    assert root_of("shared_by_many.mine.inner") == [tmp_path / "shared_by_many/mine"]
    assert root_of("one_file") == [tmp_path / "one_file.py"]
