"""Statistics of a caption store, and the differences between two stores."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np

from tadp_ray.captions.store import CaptionStore
from tadp_ray.errors import UserError
from tadp_ray.wording import pluralized

EXAMPLES = 5


def statistics(store: CaptionStore, count_tokens: Callable[[str], int], budget: int) -> dict[str, Any]:
    """Compute counts, lengths and repetitions of all captions.

    Args:
        store: with at least one image.
        count_tokens: counts the tokens of a text without the bos and eos tokens.
        budget: maximum number of tokens of the text encoder.

    Returns: `images`, `captions`, `distinct` strings, `repeated` captions of the same image, `words` and `tokens` as returned
        by `spread`, `budget`, `over_budget` captions, `most_common`, and `longest`, an image id.

    Raises:
        UserError: the store is empty.
    """
    rows = [(image_id, text) for image_id, texts in store.captions.items() for text in texts]
    if not rows:
        raise UserError(f"{store.path}: contains no images; make it again")
    uses = Counter(text for _, text in rows)
    lengths = {text: count_tokens(text) for text in uses}
    tokens = [lengths[text] for _, text in rows]
    return {
        "images": len(store),
        "captions": len(rows),
        "distinct": len(uses),
        "repeated": sum(len(texts) - len(set(texts)) for texts in store.captions.values()),
        "words": spread([len(text.split()) for _, text in rows]),
        "tokens": spread(tokens),
        "budget": budget,
        "over_budget": sum(length > budget for length in tokens),
        "most_common": dict(uses.most_common(EXAMPLES)),
        "longest": max(rows, key=lambda row: lengths[row[1]])[0],
    }


def spread(values: Collection[int]) -> dict[str, float]:
    """Return the mean, median, 95th percentile, minimum and maximum."""
    middle, high = np.percentile([*values], [50, 95]).tolist()
    return {"mean": float(np.mean([*values])), "median": middle, "p95": high, "min": min(values), "max": max(values)}


def report_lines(found: dict[str, Any]) -> Iterator[str]:
    """Yield `statistics` and the name of its `tokenizer` as lines."""
    captions, images = (pluralized(found[what], what) for what in ("captions", "images"))
    yield f"{captions} of {images}, {found['distinct']:,} of them distinct, {found['repeated']:,} repeated"
    for what in ("words", "tokens"):
        figures = "mean {mean:.1f}, median {median:g}, 95% up to {p95:g}, {min} to {max}".format(**found[what])
        yield f"{what:7} {figures}"
    yield "{over_budget:,} over the budget of {budget} tokens ({tokenizer}); the longest is that of {longest!r}".format(
        **found
    )
    yield "most common:"
    yield from (f"  {count:,} x {text!r}" for text, count in found["most_common"].items())


def difference(one: CaptionStore, other: CaptionStore) -> dict[str, Any]:
    """Return ids in only one store (`only_one`, `only_other`), the number of `same` images, and `changed` ids.

    Captions with other tags, or made of other names if both stores have names, are changed. Returns also `examples`: each
    store's captions, with their tags.
    """
    shared = sorted(one.captions.keys() & other.captions.keys())
    changed = [
        image_id
        for image_id in shared
        if shown_captions(one, image_id) != shown_captions(other, image_id)
        or (image_id in one.names and image_id in other.names and one.names[image_id] != other.names[image_id])
    ]
    return {
        "only_one": sorted(one.captions.keys() - other.captions.keys()),
        "only_other": sorted(other.captions.keys() - one.captions.keys()),
        "same": len(shared) - len(changed),
        "changed": changed,
        "examples": [
            {"id": image_id, "one": shown_captions(one, image_id), "other": shown_captions(other, image_id)}
            for image_id in changed[:EXAMPLES]
        ],
    }


def shown_captions(store: CaptionStore, image_id: str) -> list[str]:
    """Return an image's captions, each after its tag if it has one."""
    texts, tags = store.captions[image_id], store.tags.get(image_id, ())
    return [f"{tag}: {text}" for tag, text in zip(tags, texts, strict=True)] if tags else list(texts)


def difference_lines(found: dict[str, Any]) -> Iterator[str]:
    """Yield `difference` as lines."""
    for store, key in (("first", "only_one"), ("second", "only_other")):
        names = found[key]
        yield f"{pluralized(len(names), 'images')} only in the {store}" + (
            f": {', '.join(names[:EXAMPLES])}" if names else ""
        )
    yield f"{pluralized(found['same'], 'images')} with the same captions, {len(found['changed']):,} with others"
    for each in found["examples"]:
        yield f"  {each['id']}"
        yield from (f"    {sign} {text}" for sign, key in (("-", "one"), ("+", "other")) for text in each[key])
