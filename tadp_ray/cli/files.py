"""Lists and copies the shipped files."""

from pathlib import Path
from typing import Annotated

import typer

from tadp_ray.cli.common import JSONOption, say, show
from tadp_ray.config.errors import nearest
from tadp_ray.config.shipped import KINDS, copied, find, shipped, summary
from tadp_ray.errors import UserError
from tadp_ray.files import write_text


def complete_kind(prefix: str) -> list[str]:
    """Return the kinds that start with a prefix."""
    return [kind for kind in KINDS if kind.startswith(prefix)]


def complete_name(prefix: str) -> list[str]:
    """Return the names of shipped files that start with a prefix."""
    return sorted({name for kind in KINDS for name in shipped(kind) if name.startswith(prefix)})


def ls(
    kind: Annotated[
        str | None,
        typer.Argument(help=f"Kind of files: {', '.join(KINDS)}.", show_default="all", autocompletion=complete_kind),
    ] = None,
    as_json: JSONOption = False,
) -> None:
    """List the shipped files. Commands accept their names in any folder. `list` lists the sweeps that were run."""
    if kind is not None and kind not in KINDS:
        raise UserError(f"{kind}: not a kind of shipped file; {nearest(kind, list(KINDS))}")
    kinds = list(KINDS) if kind is None else [kind]
    if as_json:
        return show({one: [listed(one, *named) for named in shipped(one).items()] for one in kinds}, (), as_json)
    for number, one in enumerate(kinds):
        say("\n" * bool(number) + f"{one} ({KINDS[one].command})", style="bold")
        rows = [(name, *summary(one, file)) for name, file in shipped(one).items()]
        names, papers = (max(len(row[column]) for row in rows) for column in (0, 2))
        for name, text, paper in rows:
            say(f"  {name:<{names}}  " + (f"{paper:<{papers}}  " if papers else "") + text)


def listed(kind: str, name: str, file: Path) -> dict[str, str]:
    """Return a shipped file as JSON values."""
    text, paper = summary(kind, file)
    return {"name": name, "summary": text, "paper": paper}


def cp(
    name: Annotated[
        str,
        typer.Argument(
            help="Name from `ls`, or KIND/NAME if several kinds have this name; NAME alone selects the first kind.",
            autocompletion=complete_name,
        ),
    ],
    out: Annotated[Path, typer.Argument(help="File to write, e.g. my.yaml.")],
) -> None:
    """Copy a shipped file for editing. The copy refers to shipped recipes and sweeps by name, so it works in any folder."""
    kind, file = find(name)
    if out.suffix != ".yaml":
        raise UserError(f"{out}: expected a file name that ends in .yaml")
    if out.exists():
        raise UserError(f"{out}: exists already and is not overwritten")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, copied(kind, file, out))
    say(f"{out}: a copy of {kind}/{file.stem}")
