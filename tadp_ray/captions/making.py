"""The commands that make the caption stores of a recipe."""

import glob
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tadp_ray.captions.store import import_command
from tadp_ray.config.data import POCKET_DATA, PublishedData
from tadp_ray.config.recipe import Recipe


def missing_stores(recipes: Sequence[Recipe]) -> list[str]:
    """Return a text for each missing caption store of the recipes, with the commands that make it for all of them."""
    named: dict[Path, list[Recipe]] = {}
    for recipe in recipes:
        for store in {*stores_of(recipe, "train"), *stores_of(recipe, "val")}:
            named.setdefault(store, []).append(recipe)
    missing = sorted(store for store in named if not store.exists())
    return [f"{store} is missing; {how_to_make(store, named[store])}" for store in missing]


def tags_in(store: Path, recipes: Sequence[Recipe]) -> list[str]:
    """Return the tags by which recipes choose captions in a store."""
    captions = [caption for recipe in recipes for caption in recipe.captions.values()]
    tags = [caption.tag for caption in captions if caption.tag and store in (caption.store, caption.target_store)]
    return list(dict.fromkeys(tags))


def how_to_write(tags: Sequence[str]) -> str:
    """Return the form of a store whose captions have tags, which no command makes."""
    said = ", ".join(f'"{tag}": "..."' for tag in tags)
    return f'write a store of your own with these captions of each image: {{"ID": {{"captions": {{{said}}}}}, ...}}'


def how_to_make(store: Path, recipes: Sequence[Recipe]) -> str:
    """Return the commands that make a caption store of recipes.

    The store's name contains the length of its captions: `..._min40` have at least 40 tokens. Those of `..._nouns` are made of
    the store without this ending, or come from a published file.
    """
    recipe = recipes[-1]
    if tags := tags_in(store, recipes):
        return how_to_write(tags)
    if recipe.data.kind == POCKET_DATA:
        return (
            "scenes are drawn, and no captioner looks at them: use source: template, which plays one, or write a store of "
            "your own with a caption of each scene (train-0-000000 ...)"
        )
    if not has_photographs(recipe):
        return f"write a store of your own with a caption of each image of {recipe.data.kind}, by its id"
    images = images_of(store, recipes)
    brought = "FILE" if recipe.data.kind == "folder" else "FILE.json"
    bring = f"tadp-ray caption import {brought} {shlex.join([*import_options(images), '--out', str(store)])}"
    if store.stem.endswith("_nouns"):
        whole = str(store.with_stem(store.stem.removesuffix("_nouns")))
        made = shlex.join(["tadp-ray", "caption", "nouns", whole, "--out", str(store)])
        return f"make it of {whole}: {made}; or bring a published file of nouns: {bring}"
    length = re.search(r"min(\d+)", store.stem)
    least = ["--min-tokens", length[1]] if length else []
    cards = ["--gpus", "1"] if recipe.compute.gpus else []
    blip = lambda each, out: shlex.join(["tadp-ray", "caption", "blip", *each, *least, "--out", str(out), *cards])
    if both := shared_names(images):
        scored = store.with_stem(f"{store.stem}_val")
        return (
            f"images of train and of val are called {both[0]}, so each split needs a store of its own: {blip(images[0], store)}; "
            f"{blip(images[1], scored)}; then set caption.target_store={scored}"
        )
    made = " && ".join(blip(each, store) for each in images)
    return f"make it: {made}; or bring a {'file' if recipe.data.kind == 'folder' else 'published file'}: {bring}"


def has_photographs(recipe: Recipe) -> bool:
    """Return whether a recipe's data are photographs whose files the commands on captions find."""
    return recipe.data.kind == "folder" or isinstance(recipe.data, PublishedData)


def shared_names(images: Sequence[Sequence[str]]) -> list[str]:
    """Return the names, without endings, that images of both splits of a folder have; none if one split reads the store."""
    if len(images) != 2 or any(len(each) > 1 for each in images):
        return []
    train, val = ({Path(file).stem for file in glob.iglob(each[0], recursive=True)} for each in images)
    return sorted(train & val)


def import_words(recipe: Recipe) -> dict[str, str]:
    """Return what errors say in place of `import_command` (`said_as`): the command with the photographs of the recipe."""
    if not has_photographs(recipe):
        return {}
    stores = {*stores_of(recipe, "train"), *stores_of(recipe, "val")}
    given = {store: shlex.join(import_options(images_of(store, [recipe]))) for store in stores}
    return {import_command(store): import_command(store, images) for store, images in given.items() if images}


def import_options(images: Sequence[Sequence[str]]) -> list[str]:
    """Return the options that name `images_of` for `caption import`; none for two published data sets, which have no option."""
    if all(len(each) == 1 for each in images):
        return [word for (pattern,) in images for word in ("--images", pattern)]
    return ["--data", *images[0]] if len(images) == 1 else []


def images_of(store: Path, recipes: Sequence[Recipe]) -> list[list[str]]:
    """Return the images of a store, of the data of the last recipe, as arguments of `caption blip`."""
    data = recipes[-1].data
    splits = [split for split in ("train", "val") if any(store in stores_of(recipe, split) for recipe in recipes)]
    if data.kind == "folder":
        globs = [f"{glob.escape(str(data.root))}/{getattr(data, split).images}" for split in splits]
        return [[pattern] for pattern in dict.fromkeys(globs)]
    learned = [data.kind, "--root", str(data.root)]
    if data.target_domain is None:
        return [[*learned, *(["--split", *splits] if len(splits) == 1 else [])]]
    target = [data.target_domain.kind, "--root", str(data.target_domain.root)]
    return [{"train": learned, "val": target}[split] for split in splits]


def stores_of(recipe: Recipe, split: Literal["train", "val"]) -> tuple[Path, ...]:
    """Return the caption stores of a split's images, of the scored ones also those of further evaluations."""
    own, others = recipe.caption, recipe.evaluation.captions.values()
    found = (own.store,) if split == "train" else (own.target_store or own.store, *(other.store for other in others))
    return tuple(filter(None, found))
