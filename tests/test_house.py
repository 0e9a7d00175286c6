"""The house stands as it is drawn: its floors hold, and what its pages point to is there."""

import re
from pathlib import Path

from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

ROOT = Path(__file__).resolve().parents[1]


def test_rooms_import_only_rooms_below() -> None:
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == EXIT_STATUS_SUCCESS


def test_every_link_and_file_that_the_readme_names_exists() -> None:
    text = (ROOT / "README.md").read_text()
    links = [target for target in re.findall(r"\]\(([^)#\s]+)\)", text) if "://" not in target]
    named = re.findall(r"`((?:tadp_ray|experiments|sweeps|tests|benchmarks|docker)/[\w./-]*\w)`", text)
    assert len(links) + len(named) > 10
    missing = [name for name in {*links, *named} if not (ROOT / name).exists()]
    assert not missing
