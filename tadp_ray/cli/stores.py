"""Commands on caption stores: import, create, degrade, keep nouns, show, count, check, compare."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tadp_ray.cli.common import Commands, JSONOption, check_png, console, say, show
from tadp_ray.config.classes import parse_classes
from tadp_ray.errors import UserError, said_as
from tadp_ray.files import is_any_of
from tadp_ray.wording import pluralized

if TYPE_CHECKING:
    from tadp_ray.captions.alignment import Alignment, Match

app = Commands()
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


@app.command("import")
def import_captions(
    file: Annotated[Path, typer.Argument(help="Caption file: a published one, a COCO file, JSON, CSV or TSV.")],
    out: OutOption,
    data: DataOption = None,
    root: RootOption = None,
    split: SplitOption = None,
    images: ImagesOption = None,
) -> None:
    """Convert a caption file to a caption store.

    JSON files contain {id: text}, {id: [texts]}, a list of objects, or one object per line. In objects and in tables, the image
    is named by `file_name`, `image`, `image_id` or `id`, and the caption is in `caption` or `text`.

    If you specify the images, captions are stored under their ids. Captions of other images are left out. The command lists these
    captions and the images without a caption. To train on your own images, specify them if the file names images with their
    extension (`a.jpg`): pass the recipe with --data, or globs with --images.

    An existing file is replaced only if it is another caption store.
    """
    from tadp_ray.captions.check import only_first
    from tadp_ray.captions.convert import import_store
    from tadp_ray.captions.store import check_out
    from tadp_ray.cli.inputs import pictures, recipe_data
    from tadp_ray.wording import first_few

    check_out(out, file)
    named = pictures(data, root, split, images)
    own = data is None or getattr(recipe_data(data, root), "kind", "") == "folder"
    # Names in a published file may be of other folders than those of the data set.
    store = import_store(file, named if own or named is None else list(named))
    store.write(out)
    nouns = {"left_out": "images", "rekeyed": "ids", "repeats_dropped": "repetitions"}
    left_out, rekeyed, repeats = (pluralized(store.header[key], noun) for key, noun in nouns.items())
    say(
        f"{out}: captions of {pluralized(len(store), 'images')}; {left_out} left out, {rekeyed} changed, {repeats} dropped"
    )
    if store.elsewhere:
        say(
            f"  {pluralized(len(store.elsewhere), 'entries')} of other folders than the images: {first_few(store.elsewhere)}; if "
            "these are captions of another split with the same names, import each split by itself"
        )
    if store.left_out:
        say(f"  {pluralized(len(store.left_out), 'entries')} without an image: {first_few(store.left_out)}")
    if bare := [image_id for image_id in named or () if image_id not in store.captions]:
        say(f"  {pluralized(len(bare), 'images')} without a caption: {first_few(bare)}")
    if store.several:
        say(f"  {only_first(store.several)}")


@app.command()
def oracle(
    out: OutOption,
    masks: MasksOption = None,
    classes: ClassesOption = None,
    data: DataOption = None,
    root: RootOption = None,
    split: SplitOption = None,
    ignore: IgnoreOption = None,
    reduce_zero_label: ReduceOption = False,
    mask_suffix: SuffixOption = "",
    without_background: Annotated[
        bool,
        typer.Option(
            "--without-background", help="Leave out the class 'background' (as caption.include_background: false)."
        ),
    ] = False,
) -> None:
    """Caption each image with the names of its ground-truth classes."""
    from tadp_ray.captions.oracle import oracle_store
    from tadp_ray.captions.sources import foreground, things_in
    from tadp_ray.captions.store import check_out
    from tadp_ray.cli.inputs import mask_options, reading, truth

    check_out(out)
    of_masks = mask_options(classes, ignore, reduce_zero_label, mask_suffix)
    names, present = truth(masks, of_masks, data, {"--root": root, "--split": split})
    if without_background:
        names, present = foreground(names), things_in(present)
    origin = {"data": data, "split": split} if data else {"masks": masks, **reading(of_masks)}
    store = oracle_store(present, names, origin)
    store.write(out)
    distinct = len(set(store.captions.values()))
    say(f"{out}: captions of {pluralized(len(store), 'images')}, {distinct:,} of them distinct")


@app.command()
def degrade(
    oracle: Annotated[Path, typer.Argument(help="Caption store from `caption oracle`.")],
    out: OutOption,
    precision: Annotated[float, typer.Option(help="Fraction of correct names among the names in all captions.")] = 1.0,
    recall: Annotated[
        float, typer.Option(help="Fraction of the ground-truth names of all images that are in the captions.")
    ] = 1.0,
    seed: Annotated[
        int,
        typer.Option(min=0, help="Random seed."),
    ] = 0,
    min_true: Annotated[
        int, typer.Option(min=0, help="Minimum number of correct names that each image keeps (as caption.min_true).")
    ] = 1,
    distractors: Annotated[str, typer.Option(help="Additional wrong names, which are in no image: a,b,c.")] = "",
    shuffle: Annotated[
        bool, typer.Option("--shuffle", help="Put the names in random order instead of class order.")
    ] = False,
    weights: WeightsOption = "pocket",
) -> None:
    """Degrade oracle captions to a given precision and recall (Table S2).

    The command removes correct names from the captions and adds wrong ones. A training run with the same seed uses the same names
    if the store contains only the images of one split, and if --weights are the weights of the run.
    """
    from tadp_ray.captions.oracle import degraded_store
    from tadp_ray.captions.precision_recall import SELECTION
    from tadp_ray.captions.store import check_out, read_store

    check_out(out, oracle)
    count, budget = counter(weights)
    options = {name: f"--{name.replace('_', '-')}" for name in ("precision", "recall", "min_true", "distractors")}
    words = {
        f"caption.{name}{end}": f"{option}{blank}"
        for end, blank in ((": ", " "), ("", ""))
        for name, option in options.items()
    }
    with said_as({SELECTION: "", **words}):
        store = degraded_store(
            read_store(oracle),
            precision=precision,
            recall=recall,
            seed=seed,
            min_true=min_true,
            shuffle=shuffle,
            distractors=parse_classes(f"{distractors},") if distractors else (),
            count_tokens=count,
            budget=budget,
        )
    store.write(out)
    result = ", ".join(f"{name} {share(value)}" for name, value in store.header["realised"].items())
    say(f"{out}: captions of {pluralized(len(store), 'images')}; {result}")


@app.command()
def nouns(store: StoreArgument, out: OutOption) -> None:
    """Keep only the nouns of captions, each noun once.

    The result is like the nouns-only prompts of the paper. The command needs the package HanTa.
    """
    from tadp_ray.captions.nouns import load_tagger, nouns_store, tagger_name
    from tadp_ray.captions.store import check_out, read_store

    check_out(out, store)
    made = nouns_store(read_store(store), load_tagger(), tagger_name())
    made.write(out)
    empty = sum(not text for texts in made.captions.values() for text in texts)
    say(
        f"{out}: nouns of the captions of {pluralized(len(made), 'images')}" + f"; {empty} without a noun" * bool(empty)
    )


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


def counter(weights: str) -> tuple[Any, int]:
    """Return a function that counts the tokens of a text, and the maximum length of the text encoder."""
    from functools import partial

    from tadp_ray.conditioning.text_encoder import count_tokens
    from tadp_ray.conditioning.tokenizer import load_tokenizer

    tokenizer, budget = load_tokenizer(weights)
    return partial(count_tokens, tokenizer), budget


def share(value: float | None) -> str:
    """Format a fraction, or a dash for None."""
    return "-" if value is None else f"{value:.4f}"
