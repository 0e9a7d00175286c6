"""Where no shell expands ~, the command line does."""

from pathlib import Path

import pytest

from tests.fixtures.cli import invoke


@pytest.mark.parametrize("words", [["~/schemas"], ["--", "~/schemas"]])
def test_home_in_arguments(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    result = invoke("schema", *words)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "schemas/recipe.json").is_file() and not (tmp_path / "~").exists()


@pytest.mark.slow
def test_home_behind_an_equals_sign_and_in_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    result = invoke("data", "check", "ade20k", "--root=~/photos")
    assert f"{tmp_path}/photos" in result.output.replace("\n", ""), result.output
    (tmp_path / "mine.yaml").write_text(
        "schedule: {iterations: 2, batch_size: 2, learning_rate: 1e-3}\ncaption: {source: oracle}\n"
    )
    shown = invoke("train", "~/mine.yaml", "--dry-run", "--set", "compute.storage=~/runs")
    assert f"storage: {tmp_path}/runs" in shown.output, shown.output
