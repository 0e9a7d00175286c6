"""The paper's data sets: what goes where, and whether it is there."""

from pathlib import Path
from typing import Annotated

import typer

from tadp_ray.cli.common import Commands, exit_on_user_error, say

app = Commands(help="The paper's data sets: what goes where, and whether it is there.", no_args_is_help=True)


@app.command("list")
def list_data(
    as_json: Annotated[bool, typer.Option("--json", help="Print everything known of each, for programs.")] = False,
) -> None:
    """Name the paper's data sets."""
    with exit_on_user_error():
        import json

        from tadp_ray.data.check import facts
        from tadp_ray.data.datasets import published_datasets

        if as_json:
            print(json.dumps([facts(name) for name in published_datasets()], indent=1))
        for name, known in () if as_json else published_datasets().items():
            say(f"{name:20} {known.task:13} {known.title}")


@app.command("check")
def check_data(
    name: Annotated[str, typer.Argument(help="A name from `data list`.")],
    root: Annotated[Path | None, typer.Option(help="Folder to check; without it, what goes where is told.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer for programs.")] = False,
) -> None:
    """Tell what a data set is and what goes where; with --root, open every file there and list all that is wrong."""
    with exit_on_user_error():
        import json

        from tadp_ray.data.check import check, described, facts, report_lines

        answer = facts(name) if root is None else check(name, root)
        if as_json:
            print(json.dumps(answer, indent=1))
        for line in () if as_json else described(name) if root is None else report_lines(answer):
            say(line)
        if answer.get("problems"):
            raise typer.Exit(1)
