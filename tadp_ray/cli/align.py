"""The command that measures the class names in captions."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tadp_ray.cli.common import Commands, JSONOption, check_png, console, show
from tadp_ray.cli.store_options import (
    ClassesOption,
    DataOption,
    IgnoreOption,
    MasksOption,
    ReduceOption,
    RootOption,
    SplitOption,
    StoreArgument,
    SuffixOption,
    share,
)
from tadp_ray.errors import UserError
from tadp_ray.wording import pluralized

if TYPE_CHECKING:
    from tadp_ray.captions.alignment import Alignment, Match

app = Commands()


@app.command()
def align(
    store: StoreArgument,
    oracle: Annotated[Path | None, typer.Option(help="Ground truth: a caption store from `caption oracle`.")] = None,
    masks: MasksOption = None,
    classes: ClassesOption = None,
    data: DataOption = None,
    root: RootOption = None,
    split: SplitOption = None,
    ignore: IgnoreOption = None,
    reduce_zero_label: ReduceOption = False,
    mask_suffix: SuffixOption = "",
    match: Annotated[
        Literal["similar", "exact", "synonyms"], typer.Option(help="How to match words with classes.")
    ] = "similar",
    threshold: Annotated[
        float, typer.Option(min=-1, max=1, help="Minimum cosine similarity, for --match similar.")
    ] = 0.9,
    synonyms: Annotated[
        Path | None, typer.Option(help="YAML file with entries name: [words], which replaces the built-in synonyms.")
    ] = None,
    without: Annotated[list[str] | None, typer.Option(help="Class to leave out. Repeatable.")] = None,
    tag: Annotated[
        str | None,
        typer.Option(help="Tag of the captions to measure, for a store with tags (as caption.tag)."),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Model whose text encoder to use, for --match similar. pocket knows only the words of its world."
        ),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="PNG file to write, with histograms over images.")] = None,
    as_json: JSONOption = False,
) -> None:
    """Compute precision, recall and F1 of the class names in captions (Figure S5).

    As in training, only the first caption of an image counts, or the one with --tag. A class called background does not count,
    and the distractors of a store count as wrong names. With --json, the values of each image are printed as well.
    """
    from tadp_ray.captions.alignment import align as run
    from tadp_ray.captions.sources import foreground
    from tadp_ray.captions.store import read_store
    from tadp_ray.cli.inputs import mask_options, truth
    from tadp_ray.pictures.captioned import draw_distributions

    if plot:
        check_png("--plot", plot)
    of_masks = mask_options(classes, ignore, reduce_zero_label, mask_suffix)
    names, present = truth(masks, of_masks, data, {"--root": root, "--split": split}, oracle)
    if unknown := set(without or ()) - set(names):
        raise UserError(f"--without {min(unknown)}: not one of the classes {', '.join(names)}")
    names = [name for name in foreground(names) if name not in (without or ())]
    present = {
        image_id: [name for name in present_names if name in names] for image_id, present_names in present.items()
    }
    measured = read_store(store)
    texts = measured.chosen(present, tag)
    known = [*names, *measured.header.get("distractors", ())]
    result = run(texts, present, matcher(match, texts.values(), known, threshold, synonyms, weights))
    show_alignment(result, as_json)
    if plot:
        fits = result.images.values()
        spread = {n: [v for fit in fits if (v := getattr(fit, n)) is not None] for n in ("precision", "recall", "f1")}
        draw_distributions(plot, {name: values for name, values in spread.items() if values})


def matcher(
    match: str, texts: Iterable[str], names: Sequence[str], threshold: float, synonyms: Path | None, weights: str | None
) -> "Match":
    """Return the function that finds class names in texts, from the options of `align`."""
    from tadp_ray.captions.alignment import exact, similar
    from tadp_ray.captions.synonyms import everyday, read_synonyms

    if synonyms and match != "synonyms":
        raise UserError(f"--synonyms {synonyms}: is for --match synonyms, not {match}; add it, or leave this out")
    if match == "similar":
        from tadp_ray.conditioning.similarity import text_similarity

        if weights is None:
            raise UserError(
                "--match similar needs a text encoder: name a Stable Diffusion with --weights, or pocket for captions of the "
                "pocket world; or use --match exact or --match synonyms"
            )
        return similar(texts, names, text_similarity(weights), threshold)
    if match == "synonyms":
        return exact(names, read_synonyms(synonyms, names) if synonyms else everyday(names))
    return exact(names)


def show_alignment(result: "Alignment", as_json: bool) -> None:
    """Print the values over all images; as JSON also those of each image."""
    from rich.table import Table

    rows = {
        "precision": (result.score.precision, result.score.macro_precision),
        "recall": (result.score.recall, result.score.macro_recall),
        "f1": (result.f1, result.macro_f1),
    }
    if as_json:
        images = {
            image_id: {"said": sorted(fit.said), "present": sorted(fit.present)}
            | {name: getattr(fit, name) for name in rows}
            for image_id, fit in result.images.items()
        }
        figures = {name: {"micro": micro, "macro": macro} for name, (micro, macro) in rows.items()}
        return show(figures | {"images": images}, (), as_json)
    table = Table(pluralized(len(result.images), "images"), "all names pooled", "mean over images", box=None)
    for name, values in rows.items():
        table.add_row(name, *map(share, values))
    console.print(table)
