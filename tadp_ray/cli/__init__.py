"""The command line. Every command imports its modules when it is called, so that the others start quickly."""

import os
import re
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tadp_ray.cli import (
    analyze,
    caption,
    data,
    files,
    gains,
    personalize,
    picture,
    pocket,
    results,
    runs,
    score,
    sweeps,
    tracking,
)
from tadp_ray.cli.common import Commands, say
from tadp_ray.garbage import collect_rarely


class ExpandHome(TyperGroup):
    """The commands; expands ~/ where the shell does not: in quotes, and after an option's equals sign."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line with ~/ expanded."""
        expanded = [
            re.sub(r"^(--[\w-]+=)?(~/.*)$", lambda at: (at[1] or "") + os.path.expanduser(at[2]), arg) for arg in args
        ]
        return super().parse_args(ctx, expanded)


app = Commands(
    cls=ExpandHome,
    name="tadp-ray",
    help="Ablations of text conditioning in diffusion-based perception: sweeps, tables and figures.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Brackets in help texts are not markup.
    rich_markup_mode=None,
)


def show_version(requested: bool) -> None:
    """Print the version and, if known, the git commit, then exit."""
    if requested:
        import tadp_ray
        from tadp_ray.training.provenance import git_commit

        commit = git_commit()
        say(f"tadp-ray {tadp_ray.__version__}" + (f" (commit {commit})" if commit else ""))
        raise typer.Exit


@app.callback()
def start(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=show_version, is_eager=True, help="Print the version and the git commit, then exit."
        ),
    ] = False,
) -> None:
    """Options of all commands."""
    collect_rarely()


for command in (
    files.ls,
    files.cp,
    sweeps.sweep,
    sweeps.train,
    sweeps.search,
    results.predict,
    results.table,
    results.report,
    results.dashboard,
    sweeps.schema,
):
    app.command()(command)
app.command("list")(runs.list_sweeps)
for command in (runs.status, runs.logs, runs.stop, runs.gc):
    app.command()(command)
app.command()(personalize.personalize)
app.add_typer(pocket.app, name="pocket")
app.add_typer(caption.app, name="caption")
app.add_typer(analyze.app, name="analyze")
app.add_typer(data.app, name="data")
app.add_typer(score.app, name="score")
app.add_typer(tracking.app, name="tracking")
picture.app.command()(gains.gains)
app.add_typer(picture.app, name="picture")
