"""Options of the commands on caption stores, and how they count tokens and print fractions."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

StoreArgument = Annotated[Path, typer.Argument(help="Caption store, or a published caption file.")]
OutOption = Annotated[Path, typer.Option(help="Caption store to write, e.g. captions.jsonl.")]
DataOption = Annotated[
    str | None,
    typer.Option(help="Data set of the images: a name from `data list`, or a recipe for photographs, e.g. my.yaml."),
]
RootOption = Annotated[
    Path | None, typer.Option(help="Folder of the data set.", show_default="data.root of the recipe")
]
SplitOption = Annotated[str | None, typer.Option(help="Split: train or val.", show_default="all")]
ImagesOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Quoted glob of images, instead of --data. Ids: file stems, or paths if stems repeat. Repeatable."
    ),
]
MasksOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Quoted glob of label maps, instead of --data. Ids: file stems, or paths if stems repeat. Repeatable."
    ),
]
SuffixOption = Annotated[
    str, typer.Option(help="Suffix that follows the id in the file stem of a label map, e.g. _labelTrainIds.")
]
ClassesOption = Annotated[
    str | None, typer.Option(help="Class names in label order: a,b,c or a text file with one name per line.")
]
IgnoreOption = Annotated[list[int] | None, typer.Option(help="Label value to ignore. Repeatable.", show_default="255")]
ReduceOption = Annotated[
    bool, typer.Option("--reduce-zero-label", help="Label k means class k-1, and label 0 means no class (ADE20K).")
]
WeightsOption = Annotated[str, typer.Option(help="Model whose tokenizer to use: pocket, a folder or a hub id.")]


def counter(weights: str) -> tuple[Callable[[str], int], int]:
    """Return a function that counts the tokens of a text, and the maximum length of the text encoder."""
    from tadp_ray.conditioning.text_encoder import count_tokens
    from tadp_ray.conditioning.tokenizer import load_tokenizer

    tokenizer, budget = load_tokenizer(weights)
    return partial(count_tokens, tokenizer), budget


def share(value: float | None) -> str:
    """Format a fraction, or a dash for None."""
    return "-" if value is None else f"{value:.4f}"
