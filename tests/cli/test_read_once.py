"""A command opens each file of its experiment once, however many parts of the program ask what it says."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tadp_ray.api.experiments import read_experiment
from tadp_ray.cli import app
from tadp_ray.config.data import DataConfig
from tadp_ray.data import datasets
from tadp_ray.data.sample import Dataset, Split
from tadp_ray.sweep.search import plan_search

OTHER = """
claims:
  - {kind: difference, text: whole names are better, better: {caption.recall: 1.0}, than: {caption.recall: 0.5}}
  - {kind: difference, text: here and there, better: {caption.recall: 1.0}, than: {experiment: tiny.yaml, caption.recall: 0.5}}
"""


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], dict[str, int]]]:
    """Counts how often each YAML file of this test was opened, by name."""
    counts: Counter[Path] = Counter()
    whole = Path.open

    def counted(path: Path, *args: object, **settings: object) -> object:
        if path.suffix == ".yaml" and path.is_file():
            counts[path.resolve()] += 1
        return whole(path, *args, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", counted)
        yield lambda: {path.name: count for path, count in sorted(counts.items()) if path.is_relative_to(tmp_path)}


@pytest.fixture
def two(experiment: Path) -> Path:
    """An experiment whose claims name another one; both have one sweep at both scales, and one recipe that extends another."""
    folder = experiment.parent
    (folder / "base.yaml").write_text((folder / "recipe.yaml").read_text())
    (folder / "recipe.yaml").write_text("extends: base.yaml\n")
    text = experiment.read_text().replace("{pocket: recipe.yaml}", "{pocket: recipe.yaml, paper: recipe.yaml}")
    experiment.write_text(text)
    (folder / "other.yaml").write_text(text + OTHER)
    return folder / "other.yaml"


def invoke(*words: object) -> str:
    """Run a command in this process; returns what it prints."""
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exit_code == 0, result.output
    return result.output


ALL = {"base.yaml": 1, "other.yaml": 1, "recipe.yaml": 1, "sweep.yaml": 1, "tiny.yaml": 1}


def test_a_plan_and_its_table(two: Path, opened, store) -> None:
    said = invoke("sweep", two, "--dry-run", "--tracking-uri", store.uri)
    assert "4 cells, 4 to train" in said
    assert opened() == ALL


def test_a_dry_run_opens_each_split_once(experiment: Path, store, monkeypatch: pytest.MonkeyPatch) -> None:
    splits: list[str] = []
    whole = datasets.open_dataset

    def counted(data: DataConfig, split: Split, storage: Path | None) -> Dataset:
        splits.append(split)
        return whole(data, split, storage)

    monkeypatch.setattr(datasets, "open_dataset", counted)
    invoke("sweep", experiment, "--dry-run", "--tracking-uri", store.uri)
    assert sorted(splits) == ["train", "val"]


def test_a_table_out_of_mlflow(two: Path, opened, store, swept, tmp_path: Path) -> None:
    swept(two)
    swept(two.with_name("tiny.yaml"))
    before = Counter(opened())
    said = invoke("table", two, "--tracking-uri", store.uri, "--storage", tmp_path / "out")
    assert "here and there" in said
    assert Counter(opened()) - before == {"other.yaml": 1, "sweep.yaml": 1, "tiny.yaml": 1}


def test_a_report_of_all_experiments(two: Path, opened, store, tmp_path: Path) -> None:
    for name in ("base", "recipe", "sweep"):
        (two.parent / "parts").mkdir(exist_ok=True)
        two.with_name(f"{name}.yaml").rename(two.parent / f"parts/{name}.yaml")
    for file in (two, two.with_name("tiny.yaml")):
        file.write_text(
            file.read_text().replace("recipe.yaml", "parts/recipe.yaml").replace("sweep.yaml", "parts/sweep.yaml")
        )
    before = Counter(opened())
    invoke("report", tmp_path / "page", "--experiments", tmp_path, "--tracking-uri", store.uri)
    assert Counter(opened()) - before == {"other.yaml": 1, "sweep.yaml": 1, "tiny.yaml": 1}


def test_python(two: Path, opened) -> None:
    assert len(read_experiment(two, dry=True)) == 4
    assert opened() == ALL


def test_an_analysis_of_several_seeds(two: Path, opened, store, tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(
        "question: Why?\nfigure: Figure S0\nrecipes: {pocket: recipe.yaml}\nseeds: [0, 1, 2]\nspec: {kind: off_target}\n"
    )
    words = ["analyze", "run", tmp_path / "spec.yaml", "--tracking-uri", store.uri]
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exit_code == 2 and result.output.count("tadp-ray train") == 3
    assert opened() == {"base.yaml": 1, "spec.yaml": 1, "recipe.yaml": 1}


@pytest.mark.slow
def test_one_training_and_a_search(two: Path, opened, tmp_path: Path) -> None:
    invoke("train", two.with_name("recipe.yaml"), "--dry-run")
    assert opened() == {"base.yaml": 1, "recipe.yaml": 1}
    (tmp_path / "search.yaml").write_text(
        "space: {schedule.learning_rate: {low: 1e-4, high: 1e-2}}\ncandidates: 3\ngrace_period: 1\nreduction_factor: 3\n"
    )
    plan_search(two.with_name("recipe.yaml"), tmp_path / "search.yaml", (), 0)
    assert opened() == {"base.yaml": 2, "recipe.yaml": 2, "search.yaml": 1}
