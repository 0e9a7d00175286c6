"""The commands `score` and `picture`, which have options of their own for each task."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from tadp_ray.cli.common import Commands, PluginGroup
from tadp_ray.config.classes import parse_classes
from tadp_ray.errors import UserError
from tadp_ray.registry import TASKS, implementation


def parse_systems(texts: list[str]) -> dict[str, Path]:
    """`NAME=FOLDER` texts by name.

    Raises:
        UserError: one has no name, or two have the same.
    """
    pairs = [text.partition("=") for text in texts]
    named = {name.strip(): Path(folder) for name, _, folder in pairs if name.strip() and folder}
    if len(named) < len(texts):
        raise UserError(f"--system {' '.join(texts)}: expected NAME=PREDICTIONS of distinct names")
    return named


PARSED: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "systems": (list[str], parse_systems),
    "classes": (str, parse_classes),
}
"""Options that are parsed before a task gets them: the type on the command line, and the parser."""


def task_group(name: str, run: Callable[..., None]) -> type[PluginGroup]:
    """Return a group with a command for each task that registers one.

    Args:
        name: the name under which tasks register a function; its options and help become the command's.
        run: called with what that function returns, and with options of its own: positional ones come before the task's,
            keywords after them.
    """

    class TaskGroup(PluginGroup):
        def registered(self) -> dict[str, Any]:
            functions = {task: implementation(getattr(entry, name)) for task, entry in TASKS.items()}
            return {task: made(task, task_command(function, run)) for task, function in functions.items() if function}

    return TaskGroup


def made(name: str, function: Callable[..., None]) -> Any:
    """Return a command of this name."""
    app = Commands(add_completion=False, rich_markup_mode=None)
    app.command(name)(function)
    return typer.main.get_command(app)


def task_command(function: Callable[..., Any], run: Callable[..., None]) -> Callable[..., None]:
    """A command that hands what a task's function returns to `run`; its options are those of both."""
    _, *common = inspect.signature(run).parameters.values()
    own = [as_taken(option) for option in inspect.signature(function).parameters.values()]
    first = [option for option in common if option.kind is not option.KEYWORD_ONLY]
    last = [option for option in common if option.kind is option.KEYWORD_ONLY]

    def call(**options: Any) -> None:
        given = {option.name: options[option.name] for option in own}
        parsed = {key: parse(given[key]) for key, (_, parse) in PARSED.items() if key in given}
        run(function(**{**given, **parsed}), **{option.name: options[option.name] for option in common})

    every = [option.replace(kind=option.KEYWORD_ONLY) for option in (*first, *own, *last)]
    command: Any = call  # Any, since type checkers know no signature of a function
    command.__doc__ = function.__doc__
    command.__signature__ = inspect.Signature(every)
    command.__annotations__ = {option.name: option.annotation for option in every}
    return command


def as_taken(option: inspect.Parameter) -> inspect.Parameter:
    """A task's option as the command line takes it."""
    if option.name not in PARSED:
        return option
    return option.replace(annotation=Annotated[PARSED[option.name][0], *option.annotation.__metadata__])
