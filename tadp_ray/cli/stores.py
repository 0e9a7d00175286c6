"""Caption stores: made, looked at, checked, compared, and held against what the images show."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tadp_ray.cli.common import Commands, JSONOption, console, exit_on_user_error, parse_classes, say
from tadp_ray.errors import UserError

if TYPE_CHECKING:
    from tadp_ray.captions.alignment import Alignment, Match

app = Commands()
StoreArgument = Annotated[Path, typer.Argument(help="Caption store, or a published caption file.")]
OutOption = Annotated[Path, typer.Option(help="Caption store to write, e.g. captions.jsonl.")]
DataOption = Annotated[str | None, typer.Option(help="Images of a data set of the paper; see `data list`.")]
RootOption = Annotated[Path | None, typer.Option(help="Folder that holds it.")]
SplitOption = Annotated[str | None, typer.Option(help="train or val.", show_default="all")]
ImagesOption = Annotated[
    str | None,
    typer.Option(help="Or a glob of images, in quotes; an id is a file's stem, or its path if stems repeat."),
]
MasksOption = Annotated[str | None, typer.Option(help="Or a glob of label maps, in quotes; ids are alike.")]
SuffixOption = Annotated[str, typer.Option(help="What follows the id in a mask's stem, e.g. _labelTrainIds.")]
ClassesOption = Annotated[str | None, typer.Option(help="Names in label order: a,b,c or a text file with one a line.")]
IgnoreOption = Annotated[
    list[int] | None, typer.Option(help="Label that is no class; may be repeated.", show_default="255")
]
ReduceOption = Annotated[bool, typer.Option("--reduce-zero-label", help="Label k is class k-1, 0 none (ADE20K).")]
WeightsOption = Annotated[str, typer.Option(help="Whose tokenizer counts: pocket, a Stable Diffusion, or its folder.")]


@app.command("import")
def import_captions(
    file: Annotated[Path, typer.Argument(help="A published caption file, {id: text}, CSV, or an object a line.")],
    out: OutOption,
    data: DataOption = None,
    root: RootOption = None,
    split: SplitOption = None,
    images: ImagesOption = None,
) -> None:
    """Bring a caption file into the form of a store.

    A table's header names the images `image`, `file_name` or `id`, and the captions `caption` or `text`; so do objects, one
    a line.

    Given images, its keys become their ids, and what belongs to none of them is left out.
    """
    with exit_on_user_error():
        from tadp_ray.captions.convert import import_store

        store = import_store(file, pictures(data, root, split, images))
        store.write(out)
        facts = "{left_out} images left out, {rekeyed} under another id, {repeats_dropped} repetitions dropped"
        say_all([f"{out}: captions of {len(store):,} images; {facts.format(**store.header)}"])


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
        typer.Option("--without-background", help="Leave the class 'background' aside (include_background: false)."),
    ] = False,
) -> None:
    """Caption each image with the names of the classes that it shows."""
    with exit_on_user_error():
        from tadp_ray.captions.oracle import oracle_store
        from tadp_ray.captions.sources import foreground

        labels = {"ignore": ignore or [255], "reduce_zero_label": reduce_zero_label}
        names, present = truth(masks, classes, data, root, split, mask_suffix, labels)
        if without_background:
            names, present = foreground(names), {image_id: foreground(shown) for image_id, shown in present.items()}
        made = {"data": data, "split": split} if data else {"masks": masks, **labels}
        store = oracle_store(present, names, made)
        store.write(out)
        distinct = len(set(store.captions.values()))
        say_all([f"{out}: captions of {len(store):,} images, {distinct:,} of them distinct"])


@app.command()
def degrade(
    oracle: Annotated[Path, typer.Argument(help="A store from `caption oracle`.")],
    out: OutOption,
    precision: Annotated[float, typer.Option(help="Share of the names said that are shown, over all images.")] = 1.0,
    recall: Annotated[float, typer.Option(help="Share of the names shown that are said, over all images.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Which names: the same as in a training of this seed.")] = 0,
    min_true: Annotated[int, typer.Option(min=0, help="True names that each image keeps (caption.min_true).")] = 1,
    distractors: Annotated[str, typer.Option(help="Names of nothing in any image that may be said: a,b,c.")] = "",
    shuffle: Annotated[bool, typer.Option("--shuffle", help="Random word order instead of class order.")] = False,
    weights: WeightsOption = "pocket",
) -> None:
    """Leave true names out of oracle captions and put false ones in, to a precision and recall (Table S2)."""
    with exit_on_user_error():
        from tadp_ray.captions.oracle import degraded_store
        from tadp_ray.captions.store import read_store

        count, budget = counter(weights)
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
        found = ", ".join(f"{name} {share(value)}" for name, value in store.header["realised"].items())
        say_all([f"{out}: captions of {len(store):,} images; {found}"])


@app.command()
def show(
    store: StoreArgument,
    data: DataOption = None,
    root: RootOption = None,
    split: SplitOption = None,
    images: ImagesOption = None,
    out: Annotated[Path | None, typer.Option(help="PNG to write; without it, the terminal shows words alone.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Images to show, evenly spread over the store.")] = 12,
    ids: Annotated[list[str] | None, typer.Option("--id", help="Or this image; may be repeated.")] = None,
) -> None:
    """Show examples: in the terminal, or with --out beside their pictures."""
    with exit_on_user_error():
        from tadp_ray.captions.store import read_store
        from tadp_ray.pictures.captioned import draw_captions, spread_over

        captioned, files = read_store(store), pictures(data, root, split, images)
        if out is not None and files is None:
            raise UserError("--out needs the pictures: name them by --images, or by --data and --root")
        if files is not None:
            captioned.check(ids or files)
        chosen = ids or spread_over(list(captioned.captions if files is None else files), count)
        if out is None:
            say_all(f"{image_id}: {text}" for image_id in chosen for text in captioned[image_id])
            return
        if absent := [image_id for image_id in chosen if image_id not in files]:
            raise UserError(f"--id {absent[0]}: there is no picture of this id among the {len(files)} given")
        draw_captions(out, {image_id: files[image_id] for image_id in chosen}, captioned.captions)
        say_all([str(out)])


@app.command()
def stats(store: StoreArgument, weights: WeightsOption = "pocket", as_json: JSONOption = False) -> None:
    """Count captions, words, tokens against what the text encoder reads, and repetitions."""
    with exit_on_user_error():
        from tadp_ray.captions.statistics import report_lines, statistics
        from tadp_ray.captions.store import read_store

        found = statistics(read_store(store), *counter(weights)) | {"tokenizer": weights}
        answer(found, report_lines(found), as_json)


@app.command()
def check(
    store: StoreArgument,
    data: DataOption = None,
    root: RootOption = None,
    split: SplitOption = None,
    images: ImagesOption = None,
    weights: WeightsOption = "pocket",
    as_json: JSONOption = False,
) -> None:
    """List all that is wrong with a store, and exit with code 1 if anything is.

    Images without a caption, captions that are empty, hold control characters or are cut off by the text encoder, names
    that are no classes, and what is broken in the file. Captions of further images are told of, and no fault.
    """
    with exit_on_user_error():
        from tadp_ray.captions.check import check as run
        from tadp_ray.captions.check import report_lines
        from tadp_ray.data.check import find

        classes = find(data).classes if data else None
        found = run(store, *counter(weights), pictures(data, root, split, images), classes) | {"tokenizer": weights}
        answer(found, report_lines(found), as_json)
        if found["problems"]:
            raise typer.Exit(1)


@app.command()
def diff(one: StoreArgument, other: StoreArgument, as_json: JSONOption = False) -> None:
    """Tell in which images and captions two stores differ; the exit code is 1 if they do."""
    with exit_on_user_error():
        from tadp_ray.captions.statistics import difference, told_apart
        from tadp_ray.captions.store import read_store

        found = difference(read_store(one), read_store(other))
        answer(found, told_apart(found), as_json)
        if found["only_one"] or found["only_other"] or found["changed"]:
            raise typer.Exit(1)


@app.command()
def align(
    store: StoreArgument,
    oracle: Annotated[Path | None, typer.Option(help="What images show: a store from `caption oracle`.")] = None,
    masks: MasksOption = None,
    classes: ClassesOption = None,
    data: DataOption = None,
    root: RootOption = None,
    split: SplitOption = None,
    ignore: IgnoreOption = None,
    reduce_zero_label: ReduceOption = False,
    mask_suffix: SuffixOption = "",
    match: Annotated[str, typer.Option(help="How a word means a class: similar, exact or synonyms.")] = "similar",
    threshold: Annotated[float, typer.Option(min=-1, max=1, help="similar: smallest cosine.")] = 0.9,
    synonyms: Annotated[Path | None, typer.Option(help="YAML of name: [words], instead of the built-in ones.")] = None,
    without: Annotated[list[str] | None, typer.Option(help="Class left aside, e.g. background; repeatable.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="similar: whose text encoder compares words; pocket knows its own world's alone.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="PNG to write: how the figures are spread over images.")] = None,
    as_json: JSONOption = False,
) -> None:
    """Precision, recall and F1 of the class names in captions, against what images show (Figure S5).

    Of an image's captions the first one counts, as in training. --json gives the figures of each image too.
    """
    with exit_on_user_error():
        from tadp_ray.captions.alignment import align as run
        from tadp_ray.captions.oracle import names_of
        from tadp_ray.captions.store import read_store
        from tadp_ray.pictures.captioned import draw_distributions

        if oracle is None:
            labels = {"ignore": ignore or [255], "reduce_zero_label": reduce_zero_label}
            names, present = truth(masks, classes, data, root, split, mask_suffix, labels)
        else:
            names, present = names_of(read_store(oracle))
        if unknown := set(without or ()) - set(names):
            raise UserError(f"--without {min(unknown)}: is none of the classes {', '.join(names)}")
        names = [name for name in names if name not in (without or ())]
        present = {image_id: [name for name in shown if name in names] for image_id, shown in present.items()}
        captioned = read_store(store)
        captioned.check(present)
        texts = {image_id: captioned.captions[image_id][0] for image_id in present}
        found = run(texts, present, matcher(match, texts.values(), names, threshold, synonyms, weights))
        show_alignment(found, as_json)
        if plot:
            fits = found.images.values()
            spread = {
                n: [v for fit in fits if (v := getattr(fit, n)) is not None] for n in ("precision", "recall", "f1")
            }
            draw_distributions(plot, {name: values for name, values in spread.items() if values})


def matcher(
    match: str, texts: Iterable[str], names: Sequence[str], threshold: float, synonyms: Path | None, weights: str | None
) -> "Match":
    """What finds class names in texts, as the options of `align` say."""
    from tadp_ray.captions.alignment import exact, similar
    from tadp_ray.captions.synonyms import everyday, read_synonyms

    if match == "similar":
        from tadp_ray.conditioning.tokenizer import text_similarity

        if weights is None:
            raise UserError(
                "--match similar asks a text encoder: name a Stable Diffusion by --weights, or pocket for captions of the "
                "pocket world; or take --match exact or --match synonyms"
            )
        return similar(texts, names, text_similarity(weights), threshold)
    if match == "synonyms" or synonyms:
        return exact(names, read_synonyms(synonyms, names) if synonyms else everyday(names))
    if match != "exact":
        raise UserError(f"--match {match}: expected similar, exact or synonyms")
    return exact(names)


def show_alignment(found: "Alignment", as_json: bool) -> None:
    """Print the figures over all images; for programs those of each image too."""
    from rich.table import Table

    rows = {
        "precision": (found.score.precision, found.score.macro_precision),
        "recall": (found.score.recall, found.score.macro_recall),
        "f1": (found.f1, found.macro_f1),
    }
    if as_json:
        images = {
            image_id: {"said": sorted(fit.said), "present": sorted(fit.present)}
            | {name: getattr(fit, name) for name in rows}
            for image_id, fit in found.images.items()
        }
        figures = {name: {"micro": micro, "macro": macro} for name, (micro, macro) in rows.items()}
        print(json.dumps(figures | {"images": images}, indent=1))
        return
    table = Table(f"{len(found.images):,} images", "all names pooled", "mean over images", box=None)
    for name, values in rows.items():
        table.add_row(name, *map(share, values))
    console.print(table)


def truth(
    masks: str | None,
    classes: str | None,
    data: str | None,
    root: Path | None,
    split: str | None,
    suffix: str,
    labels: Mapping[str, Any],
) -> tuple[Sequence[str], dict[str, tuple[str, ...]]]:
    """Class names, and those that each image shows: by label maps, or by a data set of the paper.

    Raises:
        UserError: neither is named in full, or both are.
    """
    from tadp_ray.data.check import find
    from tadp_ray.data.inputs import by_id, names_in_masks, names_in_published

    if masks and classes and not data:
        names = parse_classes(classes)
        return names, names_in_masks(by_id(masks, suffix), names, **labels)
    if data and root and not masks and not classes:
        return find(data).classes, names_in_published(data, root, split)
    raise UserError("say what the images show by --masks and --classes, or by --data and --root")


def pictures(data: str | None, root: Path | None, split: str | None, images: str | None) -> dict[str, Path] | None:
    """Image files by id: of a glob, or of a data set of the paper; None where neither is named.

    Raises:
        UserError: both are named, or a data set without its folder.
    """
    from tadp_ray.data.inputs import by_id, photographs

    if bool(data) != bool(root) or (data and images):
        raise UserError("name images by --images, or by --data and --root")
    if data:
        return photographs(data, root, split)
    return by_id(images) if images else None


def counter(weights: str) -> tuple[Any, int]:
    """What counts the tokens of a text, and how many the text encoder reads."""
    from functools import partial

    from tadp_ray.conditioning.text_encoder import count_tokens
    from tadp_ray.conditioning.tokenizer import load_tokenizer

    tokenizer, budget = load_tokenizer(weights)
    return partial(count_tokens, tokenizer), budget


def share(value: float | None) -> str:
    """A share to read, or a dash where there is none."""
    return "-" if value is None else f"{value:.4f}"


def answer(found: Mapping[str, Any], lines: Iterable[str], as_json: bool) -> None:
    """Print a report for programs or for people."""
    if as_json:
        print(json.dumps(found, indent=1, ensure_ascii=False))
    else:
        say_all(lines)


def say_all(lines: Iterable[str]) -> None:
    """Print lines as they are."""
    for line in lines:
        say(line)
