"""A command of a task has the options of the task's function, beside those that all tasks have."""

from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from tadp_ray.cli import task_commands
from tadp_ray.cli.common import Commands
from tadp_ray.registry import Metric, TaskEntry


def compare(
    systems: Annotated[dict[str, Path], typer.Option("--system", help="NAME=FOLDER of normals.")],
    classes: Annotated[list[str], typer.Option(help="Names of surfaces.")],
    degrees: Annotated[float, typer.Option(min=1.0, help="What is off by less is right.")] = 11.25,
) -> tuple:
    """Normals, by their angle."""
    return systems, classes, degrees


def entry(picture: object) -> TaskEntry:
    """A task with or without a command."""
    return TaskEntry("normals:normals", (Metric("angle"),), "angle", picture=picture)


@pytest.fixture
def app(monkeypatch) -> Commands:
    """A group of commands of two tasks, of which one has none."""
    monkeypatch.setattr(task_commands, "TASKS", {"normals": entry(compare), "edges": entry(None)})

    def show(
        made: tuple,
        out: Annotated[Path, typer.Argument(help="Where to write.")],
        *,
        count: Annotated[int, typer.Option(min=1, help="Pictures.")] = 4,
    ) -> None:
        print(made, out, count)

    group = Commands(cls=task_commands.task_group("picture", show), no_args_is_help=True)
    group.callback()(lambda: None)
    return group


def test_options_are_parsed_and_handed_on(app: Commands) -> None:
    words = ["normals", "out", "--system", "ours=a", "--system", "theirs=b/c", "--classes", "floor, wall"]
    done = CliRunner().invoke(app, [*words, "--degrees", "30", "--count", "2"])
    made = {"ours": Path("a"), "theirs": Path("b/c")}, ["floor", "wall"], 30.0
    assert done.exit_code == 0 and done.stdout == f"{made} out 2\n", done.output
    assert CliRunner().invoke(app, words).stdout.endswith(", 11.25) out 4\n")


def test_what_does_not_fit_is_told_as_everywhere(app: Commands) -> None:
    words = ["normals", "out", "--classes", "floor,"]
    done = CliRunner().invoke(app, [*words, "--system", "ours=a", "--system", "ours=b"])
    assert done.exit_code == 2 and "error: --system ours=a ours=b: expected NAME=PREDICTIONS of dist" in done.stderr
    done = CliRunner().invoke(app, [*words, "--system", "ours=a", "--system", "b=c", "--degrees", "0"])
    assert done.exit_code == 2 and "--degrees" in done.stderr


def test_help_is_the_task_s_and_a_task_without_a_function_has_no_command(app: Commands) -> None:
    shown = CliRunner().invoke(app, ["normals", "--help"], env={"COLUMNS": "200"}).stdout
    for text in ("Normals, by their angle.", "NAME=FOLDER of normals.", "Names of surfaces.", "11.25", "--debug"):
        assert text in shown, text
    assert CliRunner().invoke(app, ["edges"]).exit_code == 2
    assert "Did you mean 'normals'?" in CliRunner().invoke(app, ["normal"]).stderr
