"""Options of `tadp-ray score` and `tadp-ray picture` that tasks share.

A task registers a function for each (`register_task(..., score=..., picture=...)`), whose arguments are the options and whose
docstring is the help: `score(...)` returns figures by name, `picture(systems, ...)` a `Comparison`. An argument is annotated by
its type and a `typer.Option`; `systems` arrives as folders by name, `classes` as names. Its module is light to import.
"""

from pathlib import Path
from typing import Annotated

import typer

PredictionsOption = Annotated[Path, typer.Option(help="Folder of predictions; a file is named as its target.")]
TargetsOption = Annotated[Path, typer.Option(help="Folder of ground truth.")]
ImagesOption = Annotated[Path, typer.Option(help="Folder of images; a file is named as its target.")]
SystemsOption = Annotated[
    dict[str, Path],
    typer.Option("--system", help="NAME=PREDICTIONS; two or more, the first is held against the others."),
]
ClassesOption = Annotated[list[str], typer.Option(help="Names in label order: a,b,c or a text file with one a line.")]
