"""The running command, and others on the same experiment, as a person types them."""

import os
import shlex
import shutil
import sys
from collections.abc import Container
from pathlib import Path

import typer

from tadp_ray.addresses import masked

MESSAGES = ("debug", "log_level")
"""Options of all commands that change only what is said."""


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
        values = value if isinstance(value, list | tuple) else [value]
        if parameter.param_type_name == "argument":
            words += map(str, values)
        elif value is True:
            words.append(parameter.opts[0])
        else:
            words += [word for each in values for word in (parameter.opts[0], str(each))]
    return masked(" ".join([program(), command, *map(shlex.quote, words)]))
