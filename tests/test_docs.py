"""README.md and docs/: what they point to is there, and the program has the commands, options and keys that they show."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from tadp_ray.cli import app
from tests.fixtures.cells import make_plan

ROOT = Path(__file__).resolve().parents[1]
README, PAGES = ROOT / "README.md", sorted((ROOT / "docs").rglob("*.md"))
WRITTEN = [README, *PAGES]
every_page = pytest.mark.parametrize("page", WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))
FENCED = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    """The program's command lines in a page's code blocks, in words, without `tadp-ray`."""
    lines = "\n".join(FENCED.findall(page.read_text())).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("tadp-ray ")]


def inline(text: str) -> list[str]:
    """What stands between single backticks."""
    return re.findall(r"`([^`\n]+)`", FENCED.sub("", text))


def find(words: list[str]) -> tuple[Any, list[str]]:
    """The command that words name, or a group of commands, and the words behind it."""
    command = typer.main.get_command(app)
    while words and hasattr(command, "commands"):
        command, words = command.get_command(typer.Context(command), words[0]), words[1:]
    return command, words


def options(command: Any) -> set[str]:
    """All options of a command, or of all commands of a group."""
    context = typer.Context(command)
    names = command.list_commands(context) if hasattr(command, "commands") else ()
    below = [options(command.get_command(context, name)) for name in names]
    return {"--help"}.union(*below, *([*param.opts, *param.secondary_opts] for param in command.params))


def keys() -> Iterator[str]:
    """Every key that a file of ours may have, in whichever group."""

    def inside(schema: Any) -> Iterator[str]:
        if isinstance(schema, dict):
            yield from schema.get("properties", {})
        for value in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
            yield from inside(value)

    for file in (ROOT / "experiments/schemas").glob("*.json"):
        yield from inside(json.loads(file.read_text()))


@every_page
def test_every_link_and_file_that_is_named_exists(page: Path) -> None:
    text = page.read_text()
    links = [target for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) if "://" not in target]
    named = re.findall(r"(?<![\w./-])(?:tadp_ray|experiments|sweeps|tests|benchmarks|docker|docs)/[\w./-]*\w", text)
    missing = [name for name in links if not (page.parent / name).exists()]
    missing += [name for name in named if not (ROOT / name).exists()]
    assert not missing


@every_page
def test_every_command_line_is_one_that_the_program_takes(page: Path) -> None:
    for words in commands(page):
        command, rest = find(words)
        command.make_context(words[0], rest)


@every_page
def test_the_program_has_every_command_and_option_that_a_sentence_names(page: Path) -> None:
    anywhere = options(typer.main.get_command(app))
    for code in inline(page.read_text()):
        words = code.split()
        named, known = words[:1], anywhere
        if words[0] == "tadp-ray":
            command, named = find(words[1:])
            known = options(command)
        assert {word for word in named if word.startswith("--")} <= known, code


@every_page
def test_every_key_that_a_page_names_is_one_of_the_yaml_files(page: Path) -> None:
    named = [code.split()[0] for code in inline(page.read_text())]
    named += [words[number + 1] for words in commands(page) for number, word in enumerate(words) if word == "--set"]
    dotted = re.compile(
        r"(?:caption|compute|data|evaluation|figure|model|schedule)((?:\.(?!safetensors)\w+)+)(?:=.*|:)?$"
    )
    inner = {key for match in map(dotted.match, named) if match for key in match[1].strip(".").split(".")}
    assert inner <= set(keys())


def test_every_command_that_a_shipped_experiment_needs_is_one_that_the_program_takes() -> None:
    files = (ROOT / "experiments").glob("*.yaml")
    lines = [line for file in files for line in yaml.safe_load(file.read_text()).get("needs", {}).values()]
    for program, *words in map(shlex.split, lines):
        command, rest = find(words)
        assert program == "tadp-ray" and command.make_context(words[0], rest)
    assert len(lines) == 2


def test_pages_show_commands_links_and_keys() -> None:
    """The tests above have something to look at."""
    assert sum(len(commands(page)) for page in WRITTEN) > 30
    assert sum(len(inline(page.read_text())) for page in WRITTEN) > 200
    assert sum(page.read_text().count("](") for page in WRITTEN) > 40


def test_every_page_is_in_the_navigation_and_on_the_first_page() -> None:
    def files(entry: Any) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        for inner in entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ():
            yield from files(inner)

    pages = sorted(str(page.relative_to(ROOT / "docs")) for page in PAGES)
    assert sorted(files(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])) == pages
    linked = re.findall(r"\]\(([\w/]+\.md)\)", (ROOT / "docs/index.md").read_text())
    assert sorted(["index.md", *linked]) == pages


def test_the_front_page_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 140


def test_the_drawing_of_the_rooms_is_what_the_package_holds() -> None:
    drawing, *_ = FENCED.findall((ROOT / "docs/architecture.md").read_text())
    package = drawing.partition("tadp_ray/\n")[2].partition("\nexperiments/")[0]
    drawn = {name.split("/")[0] for name in re.findall(r"^  (\w[\w./]*)", package, re.MULTILINE)}
    held = {path.name for path in (ROOT / "tadp_ray").iterdir() if path.suffix in ("", ".py") and path.name[:2] != "__"}
    assert drawn == held


def test_every_experiment_and_recipe_of_the_tables_has_a_file_and_every_experiment_a_row() -> None:
    def first_column(page: str, heading: str) -> set[str]:
        table = (ROOT / "docs" / page).read_text().partition(f"| {heading} |")[2].partition("\n\n")[0]
        return {name for row in table.splitlines()[2:] for name in inline(row.split("|")[1])}

    experiments = {path.stem for path in (ROOT / "experiments").glob("*.yaml")}
    assert first_column("results.md", "experiment") == experiments
    recipes = {path.stem for path in (ROOT / "experiments/recipes").glob("*.yaml")}
    assert first_column("recipes.md", "recipe | task, data") < recipes


def test_the_experiment_that_recipes_shows_makes_its_cells(tmp_path: Path) -> None:
    section = (
        (ROOT / "docs/recipes.md").read_text().partition("## An experiment of your own\n")[2].partition("\n## ")[0]
    )
    for name, text in re.findall(r"```yaml\n# (\S+)\n(.*?)```", section, re.DOTALL):
        (tmp_path / name).write_text(text)
    plan = make_plan(tmp_path / "text.yaml", "pocket")
    assert [cell.name for cell in plan.cells if cell.seed == 0] == [
        f"text={text} timestep={timestep} seed=0" for text in ("none", "right names") for timestep in (1, 50)
    ]
