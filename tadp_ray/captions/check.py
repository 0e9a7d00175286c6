"""Checks a caption store: whether it covers the images, and whether its captions are valid text."""

import unicodedata
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from tadp_ray.captions.alignment import exact, words
from tadp_ray.captions.store import CaptionStore, read_store
from tadp_ray.errors import UserError
from tadp_ray.wording import first_few, pluralized

SHOWN = 10
"""Maximum number of lines of one kind in a report."""


def check(
    path: Path,
    count_tokens: Callable[[str], int],
    budget: int,
    ids: Collection[str] | None = None,
    classes: Collection[str] | None = None,
) -> dict[str, Any]:
    """Find all problems of a store.

    Args:
        path: the store, of either form.
        count_tokens: tokens of a text without start and EOS tokens.
        budget: tokens that the text encoder reads; what is beyond is cut off.
        ids: the images of the data set; None: not known.
        classes: names that captions put together of names may say; None: those of the store's header, if any.

    Returns: the numbers of images and captions, ids with `several` captions, `surplus` ids, `over_budget` captions, and under
        "problems" everything that is wrong, one line an entry. An over-long caption is a problem, several or surplus ids
        are none.
    """
    try:
        store = read_store(path)
    except UserError as error:
        nothing = {"images": 0, "captions": 0, "several": [], "surplus": [], "over_budget": []}
        return {"store": str(path), **nothing, "problems": [str(error)]}
    tokens = {text: count_tokens(text) for text in {text for texts in store.captions.values() for text in texts}}
    too_long = [
        {"id": image_id, "tokens": tokens[text], "caption": text}
        for image_id, texts in sorted(store.captions.items())
        for text in texts
        if tokens[text] > budget
    ]
    problems = missing_images(store, ids) + flaws(store) + foreign_names(store, classes) + unsaid_names(store)
    problems += [
        f"{path}, id {each['id']!r}: {each['tokens']} tokens, of which the text encoder reads {budget}; shorten it, or "
        f"accept that its end is cut off: ...{each['caption'][-30:]!r}"
        for each in too_long
    ]
    return {
        "store": str(path),
        "images": len(store),
        "captions": sum(map(len, store.captions.values())),
        "several": store.several,
        "surplus": sorted(store.captions.keys() - set(ids)) if ids is not None else [],
        "over_budget": too_long,
        "problems": problems,
    }


def missing_images(store: CaptionStore, ids: Collection[str] | None) -> list[str]:
    """Return one line on all images without a caption; empty if there are none, or the images are unknown."""
    try:
        store.check(ids or ())
    except UserError as error:
        return [str(error)]
    return []


def flaws(store: CaptionStore) -> list[str]:
    """Return one line per caption that is empty or contains characters that are not text.

    An image that shows no class has an empty oracle caption; its names say so, and it is none of these.
    """
    problems = []
    for image_id, texts in sorted(store.captions.items()):
        for text in texts:
            where = f"{store.path or 'caption store'}, id {image_id!r}"
            if not text.strip() and store.names.get(image_id) != ():
                problems.append(f"{where}: the caption {text!r} is empty; caption the image again")
            if strange := next(filter(is_no_text, text), None):
                problems.append(f"{where}: the caption {text!r:.60} holds the character {strange!a}; take it out")
    return problems


def is_no_text(character: str) -> bool:
    """Return whether a character is a control character, a surrogate, private, unassigned, or the replacement character."""
    return unicodedata.category(character) in ("Cc", "Cs", "Co", "Cn") or character == "\ufffd"


def foreign_names(store: CaptionStore, classes: Collection[str] | None) -> list[str]:
    """Return one line per name that is neither a class of the data set nor a distractor of the store."""
    classes = store.header.get("classes") if classes is None else classes
    if classes is None:
        return []
    known = {*classes, *store.header.get("distractors", ())}
    first = {name: image_id for image_id, names in sorted(store.names.items(), reverse=True) for name in names}
    return [
        f"{store.path}, id {image_id!r}: the name {name!r} is not in the data set's class list; make the store with its names"
        for name, image_id in sorted(first.items())
        if name not in known
    ]


def unsaid_names(store: CaptionStore) -> list[str]:
    """Return one line per image whose recorded names are not in its captions, by which precision and recall would be wrong."""
    problems = []
    for image_id, names in sorted(store.names.items()):
        said = exact(names)(" ".join(store.captions[image_id]))
        if unsaid := [name for name in names if words(name) and name not in said]:
            problems.append(
                f"{store.path}, id {image_id!r}: no caption says the recorded name {unsaid[0]!r}; make the store again, or take "
                "its names out"
            )
    return problems


def only_first(several: Sequence[str]) -> str:
    """Return the line on images with several captions without tags."""
    found = "1 image has" if len(several) == 1 else f"{len(several):,} images have"
    return f"{found} several captions, of which a training uses only the first: {first_few(several)}"


def report_lines(report: dict[str, Any]) -> Iterator[str]:
    """Yield a report of `check` and the name of its `tokenizer` as lines."""
    yield f"{report['store']}: {pluralized(report['captions'], 'captions')} of {pluralized(report['images'], 'images')}"
    if several := report["several"]:
        yield only_first(several)
    if surplus := report["surplus"]:
        yield f"{pluralized(len(surplus), 'captioned images')} not in the data set, which does no harm: {first_few(surplus)}"
    if longer := report["over_budget"]:
        count = pluralized(len(longer), "captions")
        yield f"{count} over the text encoder's budget, as the tokenizer of {report['tokenizer']} counts"
    problems = report["problems"]
    yield pluralized(len(problems), "problems") if problems else "no problems"
    yield from (f"  {problem}" for problem in problems[:SHOWN])
    if len(problems) > SHOWN:
        yield f"  and {len(problems) - SHOWN:,} more; --json lists them all"
