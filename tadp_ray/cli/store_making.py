"""Commands that make caption stores: import, oracle, degrade, nouns."""

from pathlib import Path
from typing import Annotated

import typer

from tadp_ray.cli.common import Commands, say
from tadp_ray.cli.store_options import (
    ClassesOption,
    DataOption,
    IgnoreOption,
    ImagesOption,
    MasksOption,
    OutOption,
    ReduceOption,
    RootOption,
    SplitOption,
    StoreArgument,
    SuffixOption,
    WeightsOption,
    counter,
    share,
)
from tadp_ray.config.classes import parse_classes
from tadp_ray.errors import said_as
from tadp_ray.wording import first_few, pluralized

app = Commands()


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
