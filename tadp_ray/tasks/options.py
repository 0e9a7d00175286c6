"""Options of `tadp-ray score` and `tadp-ray picture` that tasks share.

A task registers one function for each command (`register_task(..., score=..., picture=...)`). Its arguments are the options and
its docstring is the help text: `score(...)` returns metrics by name, `picture(systems, ...)` returns a `Comparison`. Arguments
are annotated with their type and a `typer.Option`; `systems` is passed as folders by name, `classes` as names. The module of
these functions must be fast to import.
"""

from pathlib import Path
from typing import Annotated

import typer

PredictionsOption = Annotated[
    Path, typer.Option(help="Folder of predictions. Each file has the name of its target, apart from the suffix.")
]
TargetsOption = Annotated[Path, typer.Option(help="Folder of ground-truth files.")]
ImagesOption = Annotated[
    Path, typer.Option(help="Folder of images. Each file has the name of its target, apart from the suffix.")
]
SystemsOption = Annotated[
    dict[str, Path],
    typer.Option(
        "--system",
        help="NAME=FOLDER, a name and its predictions. Can be repeated: the first system is compared with the others. With a "
        "single system, examples are drawn.",
    ),
]
ClassesOption = Annotated[
    list[str], typer.Option(help="Class names in label order: a,b,c, or a text file with one name per line.")
]
