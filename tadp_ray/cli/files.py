"""What comes with the package: shown, and copied to be edited."""

from pathlib import Path
from typing import Annotated

import typer

from tadp_ray.cli.common import exit_on_user_error, say
from tadp_ray.config.errors import nearest
from tadp_ray.config.shipped import KINDS, copied, find, shipped, summary
from tadp_ray.errors import UserError
from tadp_ray.files import write_text


def complete_kind(begun: str) -> list[str]:
    """The kinds that begin so."""
    return [kind for kind in KINDS if kind.startswith(begun)]


def complete_name(begun: str) -> list[str]:
    """The names of all kinds that begin so."""
    return sorted({name for kind in KINDS for name in shipped(kind) if name.startswith(begun)})


def ls(
    kind: Annotated[
        str | None,
        typer.Argument(help=f"One of: {', '.join(KINDS)}.", show_default="all", autocompletion=complete_kind),
    ] = None,
) -> None:
    """List what is shipped, by names that commands take from any folder: what it asks or is, and where the paper does."""
    with exit_on_user_error():
        if kind is not None and kind not in KINDS:
            raise UserError(f"{kind}: no kind of shipped file; {nearest(kind, list(KINDS))}")
        for number, one in enumerate(KINDS if kind is None else [kind]):
            say("\n" * bool(number) + f"{one} ({KINDS[one].command})", style="bold")
            rows = [(name, *summary(one, file)) for name, file in shipped(one).items()]
            names, papers = (max(len(row[column]) for row in rows) for column in (0, 2))
            for name, said, paper in rows:
                say(f"  {name:<{names}}  " + (f"{paper:<{papers}}  " if papers else "") + said)


def cp(
    name: Annotated[
        str,
        typer.Argument(help="As `ls` lists it; KIND/NAME where several have it.", autocompletion=complete_name),
    ],
    out: Annotated[Path, typer.Argument(help="File to write, e.g. my.yaml.")],
) -> None:
    """Copy a shipped file to be edited. The copy names the shipped recipes and sweeps that it builds on, wherever it lies."""
    with exit_on_user_error():
        kind, file = find(name)
        if out.suffix != ".yaml":
            raise UserError(f"{out}: expected the name of a file that ends in .yaml")
        if out.exists():
            raise UserError(f"{out}: is there already, and is not written over")
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, copied(kind, file, out))
        say(f"{out}: a copy of {kind}/{file.stem}")
