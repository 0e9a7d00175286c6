"""Commands that look at caption stores: show, stats, check, diff."""

from pathlib import Path
from typing import Annotated

import typer

from tadp_ray.cli.common import Commands, JSONOption, check_png, say, show
from tadp_ray.cli.store_options import (
    DataOption,
    ImagesOption,
    RootOption,
    SplitOption,
    StoreArgument,
    WeightsOption,
    counter,
)
from tadp_ray.errors import UserError
from tadp_ray.files import is_any_of

app = Commands()


@app.command("show")
def show_examples(
    store: StoreArgument,
    data: DataOption = None,
    root: RootOption = None,
    split: SplitOption = None,
    images: ImagesOption = None,
    out: Annotated[Path | None, typer.Option(help="PNG file to write.", show_default="print the captions")] = None,
    count: Annotated[int, typer.Option(min=1, help="Number of images to show, evenly spread over the store.")] = 12,
    ids: Annotated[list[str] | None, typer.Option("--id", help="Id of an image to show instead. Repeatable.")] = None,
) -> None:
    """Show example captions in the terminal, or with --out beside their images."""
    from tadp_ray.captions.store import read_store
    from tadp_ray.cli.inputs import pictures
    from tadp_ray.pictures.captioned import draw_captions
    from tadp_ray.pictures.choose import evenly

    captioned, files = read_store(store), pictures(data, root, split, images)
    if files is not None:
        captioned.check(ids or files)
    known = sorted(captioned.captions if files is None else files)
    chosen = ids or [known[place] for place in evenly(len(known), count)]
    if out is None:
        for line in (f"{image_id}: {text}" for image_id in chosen for text in captioned[image_id]):
            say(line)
        return
    if files is None:
        raise UserError("--out needs images: name them with --images, or with --data and --root")
    if absent := [image_id for image_id in chosen if image_id not in files]:
        raise UserError(f"--id {absent[0]}: none of the {len(files)} images has this id")
    check_png("--out", out)
    if is_any_of(out, files.values()):
        raise UserError(f"--out {out}: is a file that is read, which would be lost; name another file, e.g. shown.png")
    draw_captions(out, {image_id: files[image_id] for image_id in chosen}, captioned.captions)
    say(out)


@app.command()
def stats(store: StoreArgument, weights: WeightsOption = "pocket", as_json: JSONOption = False) -> None:
    """Count captions, words and tokens.

    The command also counts repeated captions, and captions that are too long for the text encoder.
    """
    from tadp_ray.captions.statistics import report_lines, statistics
    from tadp_ray.captions.store import read_store

    result = statistics(read_store(store), *counter(weights)) | {"tokenizer": weights}
    show(result, report_lines(result), as_json)


@app.command()
def check(
    store: StoreArgument,
    data: DataOption = None,
    root: RootOption = None,
    split: SplitOption = None,
    images: ImagesOption = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Model whose tokenizer to use: pocket, a folder or a hub id.",
            show_default="model.weights of the recipe in --data, or pocket",
        ),
    ] = None,
    as_json: JSONOption = False,
) -> None:
    """List all problems of a caption store.

    The following are problems: images without a caption; captions that are empty, contain control characters, or are truncated
    by the text encoder (with the modifiers of the recipe); recorded names that are not classes, or that are missing from the
    captions; and a damaged file. Captions of other images are listed, but are not a problem. The exit code is 1 if there are
    problems.
    """
    from tadp_ray.captions.check import check as run
    from tadp_ray.captions.check import report_lines
    from tadp_ray.captions.prompts import modified
    from tadp_ray.cli.inputs import classes_of, pictures, recipe_named

    recipe = recipe_named(data) if data else None
    weights = weights or (recipe.model.weights if recipe else "pocket")
    modifiers = recipe.caption.modifiers if recipe else ()
    count, budget = counter(weights)
    # Data of depth have no classes.
    classes = (classes_of(data) or None) if data else None
    result = run(
        store, lambda text: count(modified(text, modifiers)), budget, pictures(data, root, split, images), classes
    ) | {"tokenizer": weights}
    show(result, report_lines(result), as_json)
    if result["problems"]:
        raise typer.Exit(1)


@app.command()
def diff(one: StoreArgument, other: StoreArgument, as_json: JSONOption = False) -> None:
    """List the images and captions in which two stores differ.

    The exit code is 1 if they differ.
    """
    from tadp_ray.captions.statistics import difference, difference_lines
    from tadp_ray.captions.store import read_store

    result = difference(read_store(one), read_store(other))
    show(result, difference_lines(result), as_json)
    if result["only_one"] or result["only_other"] or result["changed"]:
        raise typer.Exit(1)
