"""Published data sets: their files and layout, and checks."""

from pathlib import Path
from typing import Annotated

import typer

from tadp_ray.cli.common import Commands, JSONOption, show
from tadp_ray.layout import STORAGE

app = Commands(help="Published data sets and your own: their files and layout, and checks.", no_args_is_help=True)


@app.command("list")
def list_data(as_json: JSONOption = False) -> None:
    """List the published data sets: the paper's, and COCO."""
    from tadp_ray.data.check import facts
    from tadp_ray.data.datasets import published_datasets

    sets = published_datasets()
    lines = (f"{name:20} {dataset.task:13} {dataset.title}" for name, dataset in sets.items())
    show([facts(name) for name in sets], lines, as_json)


@app.command("check")
def check_data(
    name: Annotated[
        str, typer.Argument(help="A name from `data list`, or the file or name of a recipe of photographs.")
    ],
    root: Annotated[
        Path | None,
        typer.Option(help="Folder to check; without it, print the expected files, or check the recipe's data.root."),
    ] = None,
    deep: Annotated[
        bool,
        typer.Option("--deep", help="Open every file, also those that have not changed since they were last opened."),
    ] = False,
    storage: Annotated[Path, typer.Option(help="Folder with the index of the files.")] = Path(STORAGE),
    as_json: JSONOption = False,
) -> None:
    """Describe a data set and the files it needs; with --root, or for a recipe, check every file and list all problems.

    A name of both a data set and a recipe, such as ade20k, means the data set here; for your recipe file, write ade20k.yaml.

    Sizes, classes and hashes of the files are kept in an index, which sweeps use, too: a file is opened again only if its size
    or its times have changed, or with --deep.
    """
    from tadp_ray.data.check import check, check_own, described, facts, report_lines
    from tadp_ray.data.inputs import recipe_data

    if own := recipe_data(name, root):
        result = check_own(name, own, storage, deep=deep)
    else:
        result = facts(name) if root is None else check(name, root, storage, deep=deep)
    show(result, report_lines(result) if own or root else described(name), as_json)
    if result.get("problems"):
        raise typer.Exit(1)
