"""Published data sets: their files and layout, and checks."""

from pathlib import Path
from typing import Annotated

import typer

from tadp_ray.cli.common import Commands, JSONOption, show
from tadp_ray.layout import STORAGE

app = Commands(help="List published data sets, and check their files and your own.", no_args_is_help=True)


@app.command("list")
def list_data(as_json: JSONOption = False) -> None:
    """List the published data sets: those of the paper, and COCO."""
    from tadp_ray.data.check import facts
    from tadp_ray.data.datasets import published_datasets

    sets = published_datasets()
    lines = (f"{name:20} {dataset.task:13} {dataset.title}" for name, dataset in sets.items())
    show([facts(name) for name in sets], lines, as_json)


@app.command("check")
def check_data(
    name: Annotated[
        str, typer.Argument(help="Data set from `data list`, or a recipe for photographs: a file or a shipped name.")
    ],
    root: Annotated[
        Path | None,
        typer.Option(help="Folder to check.", show_default="data.root of a recipe"),
    ] = None,
    deep: Annotated[
        bool,
        typer.Option(
            "--deep", help="Open every file, including those that have not changed since they were last opened."
        ),
    ] = False,
    storage: Annotated[Path, typer.Option(help="Storage folder, which contains the index of the files.")] = Path(
        STORAGE
    ),
    as_json: JSONOption = False,
) -> None:
    """Describe a data set, or check its files.

    Without --root, the command describes a published data set and the files that it needs. With --root, or for a recipe, it
    checks every file and lists all problems.

    If a name belongs to both a data set and a recipe, such as ade20k, it means the data set. For your own recipe file, write
    ade20k.yaml.

    An index stores the sizes, classes and hashes of the files. Sweeps use the same index. A file is opened again only if its size
    or timestamps have changed, or with --deep.
    """
    from tadp_ray.cli.inputs import recipe_data
    from tadp_ray.data.check import check, check_own, described, facts, report_lines

    if own := recipe_data(name, root):
        result = check_own(name, own, storage, deep=deep)
    else:
        result = facts(name) if root is None else check(name, root, storage, deep=deep)
    show(result, report_lines(result) if own or root else described(name), as_json)
    if result.get("problems"):
        raise typer.Exit(1)
