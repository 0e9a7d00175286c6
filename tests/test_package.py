"""What is installed holds what is shipped, and every command finds it by its name."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import tadp_ray
from tadp_ray.cli.common import names_of
from tadp_ray.config.errors import ConfigError
from tadp_ray.config.export import KINDS as VOCABULARIES
from tadp_ray.config.load import (
    load_analysis,
    load_personalization,
    load_recipe,
    load_search,
    load_sweep,
)
from tadp_ray.config.resolve import load_experiment
from tadp_ray.config.shipped import KINDS, copied, file_of, find, references, root, shipped
from tadp_ray.config.yaml12 import parse_yaml
from tadp_ray.errors import UserError
from tadp_ray.sweep.inputs import personalization_for
from tests.fixtures.cells import make_plan
from tests.fixtures.cli import invoke

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = [(kind, name) for kind in KINDS for name in shipped(kind)]
LOADS: dict[str, Callable[[Path], Any]] = {
    "experiments": load_experiment,
    "recipes": load_recipe,
    "sweeps": load_sweep,
    "searches": load_search,
    "analyses": load_analysis,
    "personalizations": load_personalization,
}
every_file = pytest.mark.parametrize(("kind", "name"), SHIPPED, ids=[f"{kind}/{name}" for kind, name in SHIPPED])


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a wheel of this checkout holds."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("tadp_ray", "experiments", "sweeps"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    flags = ["--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--wheel-dir", str(built)]
    command = [sys.executable, "-m", "pip", "wheel", *flags, "."]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(built / "unpacked")
    return built / "unpacked"


def files_in(folder: Path) -> set[str]:
    """The files of a folder by their paths in it."""
    paths = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix() for path in paths}


@pytest.mark.slow
def test_a_wheel_holds_code_assets_experiments_and_sweeps(unpacked: Path) -> None:
    found = files_in(unpacked / "tadp_ray")
    inside = {f"shipped/{folder}/{file}" for folder in ("experiments", "sweeps") for file in files_in(ROOT / folder)}
    assert found == files_in(ROOT / "tadp_ray") | inside
    assert "py.typed" in found and any(file.startswith("assets/pocket/unet/") for file in found)
    assert {path.name for path in unpacked.iterdir() if path.suffix != ".dist-info"} == {"tadp_ray"}


def test_what_is_unpacked_finds_its_own_files(unpacked: Path, tmp_path: Path) -> None:
    script = (
        "from tadp_ray.cli import app\n"
        "from tadp_ray.config.resolve import load_experiment\nfrom tadp_ray.config.load import load_recipe\n"
        "from tadp_ray.config.shipped import root, shipped\n"
        "for file in shipped('experiments').values(): load_experiment(file)\n"
        "for file in shipped('recipes').values(): load_recipe(file)\n"
        "print(len(shipped('experiments')), root(), flush=True)\n"
        "app(['--version'])"
    )
    environment = os.environ | {"PYTHONPATH": str(unpacked)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    count = len(shipped("experiments"))
    # A commit is told of checkouts alone.
    assert done.stdout == f"{count} {unpacked / 'tadp_ray/shipped'}\ntadp-ray {tadp_ray.__version__}\n"


def test_a_checkout_s_files_are_those_at_its_top() -> None:
    assert root() == ROOT
    listed = {file for kind in KINDS for file in shipped(kind).values()}
    assert listed == {*(ROOT / "experiments").rglob("*.yaml"), *(ROOT / "sweeps").rglob("*.yaml")}


@every_file
def test_a_shipped_name_is_found_and_read(kind: str, name: str) -> None:
    file = file_of(Path(name), kind)
    assert file == shipped(kind)[name] and find(f"{kind}/{name}") == (kind, file)
    LOADS[kind](file)
    # Its schema is called as its kind is.
    assert KINDS[kind].one in VOCABULARIES and f"schemas/{KINDS[kind].one}.json" in file.read_text().partition("\n")[0]


@every_file
def test_a_copy_builds_on_what_the_original_does(kind: str, name: str, tmp_path: Path) -> None:
    file, copy = shipped(kind)[name], tmp_path / "deep/my copy.yaml"
    assert invoke("cp", f"{kind}/{name}", copy).exit_code == 0
    raws = [parse_yaml(path.read_text(), str(path)) for path in (file, copy)]
    there = [
        [file_of(Path(text), own, path).resolve() for own, text in references(raw, kind)]
        for raw, path in zip(raws, (file, copy), strict=True)
    ]
    assert there[0] == there[1]
    for raw in raws:
        for key in ("extends", "recipes", "sweep"):
            raw.pop(key, None)
    assert raws[0] == raws[1]
    comments = [line for line in copy.read_text().splitlines() if line.startswith("#")]
    assert not any(re.search(r"(experiments|sweeps)/\S+\.yaml", line) for line in comments)
    assert Path(comments[0].partition("$schema=")[2]).is_file()
    LOADS[kind](copy)


def test_a_copied_experiment_asks_for_the_same_trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = invoke("cp", "prec_recall", "my.yaml")
    assert (said.exit_code, said.stdout) == (0, "my.yaml: a copy of experiments/prec_recall\n")
    assert "#   python -m tadp_ray.sweep my.yaml\n" in Path("my.yaml").read_text()
    plans = [make_plan(file, "pocket") for file in (file_of(Path("prec_recall"), "experiments"), Path("my.yaml"))]
    assert len(plans[0].cells) == 9
    assert [cell.fingerprint for cell in plans[0].cells] == [cell.fingerprint for cell in plans[1].cells]
    assert plans[0].key == plans[1].key and plans[1].name == "my"


def test_a_copied_recipe_extends_a_shipped_one(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("extends: pocket_segmentation\nschedule: {iterations: 77}\n")
    found, base = load_recipe(tmp_path / "own.yaml"), load_recipe(shipped("recipes")["pocket_segmentation"])
    assert found.schedule.iterations == 77 and found.data == base.data
    (tmp_path / "pocket_segmentation.yaml").write_text("extends: pocket_segmentation\n")
    assert load_recipe(tmp_path / "pocket_segmentation.yaml") == base


def test_a_copy_takes_nobody_s_place(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("mine")
    said = invoke("cp", "prec_recall", tmp_path / "my.yaml")
    assert said.exit_code == 2 and "exists already" in said.stderr
    assert (tmp_path / "my.yaml").read_text() == "mine"
    said = invoke("cp", "prec_recall", tmp_path)
    assert said.exit_code == 2 and "ends in .yaml" in said.stderr


def test_of_one_name_in_several_kinds_the_first_is_copied_unless_another_is_named() -> None:
    assert find("pocket_styles") == ("experiments", ROOT / "experiments/pocket_styles.yaml")
    assert find("sweeps/pocket_styles") == ("sweeps", ROOT / "sweeps/pocket_styles.yaml")
    for name, said in (
        ("prec_recal", "did you mean 'prec_recall'?"),
        ("recipe/camvid", "did you mean 'recipes'?"),
        ("recipes/camvit", "did you mean 'camvid'?"),
    ):
        with pytest.raises(UserError, match=re.escape(said)):
            find(name)


def test_a_path_that_exists_wins_over_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prec_recall").mkdir()
    assert file_of(Path("prec_recall"), "experiments") == ROOT / "experiments/prec_recall.yaml"
    (tmp_path / "prec_recall").rmdir()
    (tmp_path / "prec_recall").write_text("question: Mine?\n")
    assert file_of(Path("prec_recall"), "experiments") == Path("prec_recall")
    assert (
        file_of(Path("prec_recall"), "experiments", Path("folder/mine.yaml")) == ROOT / "experiments/prec_recall.yaml"
    )


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        (["sweep", "prec_recal"], "prec_recall"),
        (["sweep", "prec_recall", "--recipe", "pocket_segmentatio"], "pocket_segmentation"),
        (["table", "prec_recal"], "prec_recall"),
        (["train", "pocket_dept", "--dry-run"], "pocket_depth"),
        (["search", "pocket_dept", "search_learning_rate", "--out", "found.yaml"], "pocket_depth"),
        (["search", "pocket_depth", "search_learning_rat", "--out", "found.yaml"], "search_learning_rate"),
        (["analyze", "run", "copy_past"], "copy_paste"),
        (["personalize", "pocket_token_nigh"], "pocket_token_night"),
    ],
)
def test_an_unknown_name_is_told_with_the_nearest(
    words: list[str], nearest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = invoke(*words)
    assert said.exit_code == 2 and "neither a file nor a shipped " in said.stderr
    assert f"which tadp-ray ls lists; did you mean '{nearest}'?" in said.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_name_of_another_kind_is_told_with_its_commands() -> None:
    said = invoke("sweep", "pocket_segmentation")
    assert said.exit_code == 2
    assert "it is a shipped recipe: tadp-ray train NAME, or tadp-ray sweep --recipe NAME --axis KEY=A,B" in said.stderr


def test_without_a_store_the_name_of_a_sweep_says_that_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = invoke("table", "my-caption")
    assert said.exit_code == 2 and "mlflow.db: there is no such store; run a sweep in this folder first" in said.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_in_the_place_of_an_experiment_is_told_with_its_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke("cp", "folder_segmentation", "my.yaml").exit_code == 0
    use = "tadp-ray train my.yaml, or tadp-ray sweep --recipe my.yaml --axis KEY=A,B"
    for command in ("sweep", "table"):
        said = invoke(command, "my.yaml")
        assert said.exit_code == 2 and said.stderr == f"error: my.yaml is a recipe, not an experiment: {use}\n"
    assert invoke("cp", "prec_recall", "own.yaml").exit_code == 0
    for words in (["train", "own.yaml"], ["sweep", "--recipe", "own.yaml", "--axis", "model.timestep=1"]):
        said = invoke(*words)
        assert said.exit_code == 2
        assert said.stderr == "error: own.yaml is an experiment, not a recipe: tadp-ray sweep own.yaml\n"


def test_misspelled_weights_are_named_before_sizes_that_do_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = invoke("train", "pocket_segmentation", "--set", "model.weights=pockt", "--dry-run")
    assert said.exit_code == 2
    assert said.stderr == "error: model.weights='pockt': no known name, file or folder; did you mean 'pocket'?\n"
    said = invoke(
        "train", "pocket_segmentation", "--set", "model.weights=elsewhere", "--set", "augment.crop=96", "--dry-run"
    )
    assert said.stderr.startswith(
        "error: weights: elsewhere is missing; using the sizes of Stable Diffusion 1.5; augment.crop=96"
    )


def test_a_path_that_is_not_here_is_told_with_the_shipped_name() -> None:
    said = invoke("sweep", "nowhere/prec_recall.yaml")
    assert said.exit_code == 2
    assert "nowhere/prec_recall.yaml: no such file; a shipped experiment is called prec_recall" in said.stderr


def test_a_wrong_name_in_a_file_is_told_with_the_file(experiment: Path) -> None:
    experiment.write_text(experiment.read_text().replace("recipe.yaml", "pocket_segmentatoin"))
    with pytest.raises(ConfigError, match=r"tiny\.yaml: pocket_segmentatoin: neither a file nor a shipped recipe"):
        make_plan(experiment, "pocket")


@pytest.mark.slow
@pytest.mark.parametrize("words", [["train", "pocket_depth"], ["personalize", "pocket_token_night"]])
def test_a_bare_name_is_taken_from_any_folder(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = invoke(*words, "--dry-run")
    assert said.exit_code == 0, said.output


@pytest.mark.slow
def test_a_dry_run_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    said = invoke("sweep", "prec_recall", "--dry-run")
    assert said.exit_code == 0 and "9 cells, 9 to train" in said.stdout
    assert not list(tmp_path.iterdir())


def test_the_table_and_the_report_of_shipped_experiments_need_no_checkout(
    store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = invoke("table", "prec_recall", "--tracking-uri", store.uri)
    assert said.exit_code == 2 and "holds no sweep of prec_recall at pocket scale" in said.stderr
    said = invoke("report", "page", "--tracking-uri", store.uri)
    assert said.exit_code == 0 and (tmp_path / "page/report.md").is_file()


def test_a_personalization_is_named_to_who_copied_an_experiment(tmp_path: Path) -> None:
    assert personalization_for("pocket_token_night", tmp_path) == "pocket_token_night"
    assert personalization_for("nothing_like_it", tmp_path) is None
    there = ROOT / "experiments"
    assert personalization_for("pocket_token_night", there) == there / "personalization/pocket_token_night.yaml"


def test_all_that_is_shipped_is_listed() -> None:
    said = invoke("ls")
    assert said.exit_code == 0
    rows = [line.split() for line in said.stdout.splitlines() if line.startswith("  ")]
    assert [row[0] for row in rows] == [name for _, name in SHIPPED]
    assert all(len(row) > 3 for row in rows)
    assert re.search(r"^  prec_recall +Table S2 +How do the precision and the recall", said.stdout, re.MULTILINE)
    assert re.search(r"^  copy_paste +Figure S2 +\w", said.stdout, re.MULTILINE)
    assert re.search(r"^  camvid +CamVid street frames", said.stdout, re.MULTILINE)
    only = invoke("ls", "searches").stdout
    assert "search_learning_rate" in only and "prec_recall" not in only
    refused = invoke("ls", "recipe")
    assert refused.exit_code == 2 and "did you mean 'recipes'?" in refused.stderr


def test_shells_complete_names() -> None:
    assert names_of("experiments")("prec") == ["prec_recall"]
    assert {"--install-completion", "--show-completion"} <= set(re.findall(r"--[\w-]+", invoke("--help").stdout))


def test_the_version_is_one_everywhere() -> None:
    said = invoke("--version")
    assert said.exit_code == 0
    assert re.fullmatch(
        rf"tadp-ray {re.escape(tadp_ray.__version__)}( \(commit [0-9a-f]{{40}}(\+dirty)?\))?\n", said.stdout
    )
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == tadp_ray.__version__
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == tadp_ray.__version__
    assert f"`{tadp_ray.__version__}`" in (ROOT / "CHANGELOG.md").read_text()


def test_commits_and_hosted_runs_do_what_the_makefile_and_ci_say() -> None:
    ((hook,),) = [repo["hooks"] for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]]
    assert hook["entry"] == "make check" and hook["always_run"] and not hook["pass_filenames"]
    job = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["ci"]
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]


def test_a_copy_s_commands_quote_its_name() -> None:
    text = copied("experiments", shipped("experiments")["prec_recall"], Path("my copy.yaml"))
    assert "python -m tadp_ray.sweep 'my copy.yaml'" in text
