"""The running command, and others on the same experiment, as a person types them."""

import os
import shlex
import shutil
import sys
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import typer

from tadp_ray.addresses import masked

MESSAGES = ("debug", "log_level")
"""Options of all commands that change only the messages."""


def program() -> str:
    """Return how the program is called from this folder: `tadp-ray` if it is on the path, else its file."""
    if shutil.which("tadp-ray"):
        return "tadp-ray"
    own = Path(sys.executable).with_name("tadp-ray")
    if not own.is_file():
        return f"{shlex.quote(sys.executable)} -m tadp_ray"
    return shlex.quote(os.path.relpath(own) if own.is_relative_to(Path.cwd()) else str(own))


def typed() -> str:
    """Return the running command as it was typed, without secrets."""
    return shlex.join(["tadp-ray", *map(masked, sys.argv[1:])])


def retyped(
    context: typer.Context, command: str, *, without: Container[str] = (), only: Container[str] | None = None
) -> str:
    """Return a command with the arguments and options of the running one; secrets are masked.

    Args:
        context: the running command.
        command: the name of the command to type.
        without: names of parameters that are left out.
        only: names of parameters that the other command has; None: all.
    """
    words = []
    for parameter in context.command.params:
        name = parameter.name
        given = context.get_parameter_source(name)
        if given is None or given.name != "COMMANDLINE" or name in (*MESSAGES, "dry_run") or name in without:
            continue
        if only is not None and name not in only:
            continue
        value = context.params[name]
        if parameter.param_type_name == "argument":
            words += map(str, value if isinstance(value, list | tuple) else [value])
        else:
            words += option_words(parameter.opts[0], value)
    return masked(" ".join([program(), command, *map(shlex.quote, words)]))


def score_command(task: str, options: Mapping[str, Any]) -> str:
    """Return the command that scores what `Task.score_options` names."""
    words = [word for name, value in options.items() for word in option_words(f"--{name.replace('_', '-')}", value)]
    return shlex.join(["tadp-ray", "score", task, *words])


def option_words(option: str, value: Any) -> list[str]:
    """Return the words that give an option a value: of a flag the option or none, of a list the option for each."""
    if isinstance(value, bool):
        return [option] * value
    return [word for each in (value if isinstance(value, list | tuple) else [value]) for word in (option, str(each))]
