"""The caption sources (`caption.source`), one function each.

A source takes a `Request` and returns `Captions`. This module has light imports, since the schema of recipes is built from the
sources registered here; plug-ins register theirs in the same way.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tadp_ray.captions.alignment import forms
from tadp_ray.captions.precision_recall import degrade
from tadp_ray.captions.store import read_store
from tadp_ray.captions.synonyms import everyday, mentioned_classes
from tadp_ray.config.vocabulary import BACKGROUND, repeated
from tadp_ray.errors import UserError
from tadp_ray.registry import register_caption_source

Prompt = str | tuple[str, ...]
"""A text, or names that are encoded separately (`caption.encoding`)."""


@dataclass(frozen=True)
class Request:
    """The images that need captions, and the facts that a source may use."""

    caption: Any
    """The recipe's group of keys."""
    present: Mapping[str, Sequence[str]]
    """Class names in the full image by image id; its keys are the images of the data set."""
    classes: Sequence[str]
    """All class names, in index order."""
    seed: int
    """Random seed."""
    count_tokens: Callable[[str], int]
    """Counts the tokens of a text without special tokens."""
    budget: int
    """Maximum number of tokens of the text encoder, which truncates longer captions."""
    say: Callable[[str, Sequence[str]], str]
    """(image id, names) -> the template captioner's sentence with these names."""
    join: Callable[[Sequence[str]], Prompt]
    """Names -> the prompt for `caption.encoding`."""


@dataclass(frozen=True)
class Captions:
    """One prompt per image id."""

    prompts: Mapping[str, Prompt]
    names: Mapping[str, Sequence[str]] | None = None
    """The class names in each prompt; None: they are found by exact words and everyday synonyms."""
    sentences: bool = False
    """Whether the prompts are sentences, whose words `caption.shuffle` puts in random order."""


@register_caption_source(
    "oracle",
    "the names of the classes in the image, taken from the ground truth",
    keys=("precision", "recall", "shuffle"),
    uses_ground_truth=True,
)
def oracle(request: Request) -> Captions:
    """The names in the image, degraded to the recipe's precision and recall; never over budget."""
    names = degraded(request, shuffle=request.caption.shuffle, by_name=False)
    return Captions({image_id: request.join(said) for image_id, said in names.items()}, names)


@register_caption_source("class_names", "the names of all classes")
def class_names(request: Request) -> Captions:
    """All class names, the same for every image."""
    return Captions(
        dict.fromkeys(request.present, request.join(request.classes)), dict.fromkeys(request.present, request.classes)
    )


@register_caption_source("null", "the empty prompt")
def null(request: Request) -> Captions:
    """The empty prompt."""
    return Captions(dict.fromkeys(request.present, ""), dict.fromkeys(request.present, ()))


@register_caption_source("sentence", "the same sentence for every image", keys=("sentence",))
def sentence(request: Request) -> Captions:
    """One sentence for every image."""
    return Captions(dict.fromkeys(request.present, request.caption.sentence))


@register_caption_source("store", "captions from a file", keys=("store", "target_store", "tag", "shuffle"))
def store(request: Request) -> Captions:
    """The image's caption in a caption store: that of the recipe's tag, without one the first.

    The names of a store that was made from the same classes are those it was made from, its distractors among them.

    Raises:
        UserError: images without such a caption.
    """
    captions = read_store(request.caption.store)
    chosen = captions.chosen(request.present, request.caption.tag)
    made_for = foreground(captions.header.get("classes", ()))
    if captions.names.keys() >= request.present.keys() and {*made_for} == {*foreground(request.classes)}:
        return Captions(chosen, captions.names, sentences=True)
    # Those of names alone, such as nouns of captions with distractors, are found by their words.
    distractors = captions.header.get("distractors", ())
    return Captions(
        chosen, mentioned_classes(chosen, [*request.classes, *distractors]) if distractors else None, sentences=True
    )


@register_caption_source(
    "template",
    "a sentence that simulates a captioner such as BLIP. Correct names are dropped and wrong names added, each independently, to "
    "reach the given precision and recall",
    keys=("precision", "recall", "shuffle", "wording"),
    uses_ground_truth=True,
)
def template(request: Request) -> Captions:
    """A captioner's sentence with the oracle's precision and recall over the data set; it may exceed the budget.

    A sentence about the scene leaves names out, so precision and recall are those of what it says.
    """
    names, wording = degraded(request, shuffle=False, by_name=True), request.caption.wording
    say = (lambda _, said: request.join(said)) if wording == "names" else request.say
    prompts = {image_id: say(image_id, said) for image_id, said in names.items()}
    return Captions(prompts, None if wording == "scene" else names, sentences=True)


@register_caption_source("shuffled", "the oracle's names of another image", uses_ground_truth=True)
def shuffled(request: Request) -> Captions:
    """The names in another image: the oracle's prompts, permuted over the images.

    Raises:
        UserError: there is one image only.
    """
    return with_background(request, dealt_out(things_in(request.present), request.seed))


@register_caption_source(
    "wrong", "names of absent classes or distractors, as many as there are classes in the image", uses_ground_truth=True
)
def wrong(request: Request) -> Captions:
    """As many absent names as there are present ones, if there are so many; distractors are absent from every image.

    Raises:
        UserError: a distractor that is a class.
    """
    names = foreground(vocabulary(request.classes, request.caption.distractors))
    return with_background(request, absent_names(things_in(request.present), names, request.seed))


def degraded(request: Request, shuffle: bool, by_name: bool) -> Mapping[str, Sequence[str]]:
    """Return the names in each image, degraded to the recipe's precision and recall.

    Raises:
        UserError: a distractor that is a class, or a precision or recall that cannot be met.
    """
    caption = request.caption
    return degrade(
        request.present,
        vocabulary(request.classes, caption.distractors),
        precision=caption.precision,
        recall=caption.recall,
        min_true=caption.min_true,
        shuffle=shuffle,
        seed=request.seed,
        count_tokens=request.count_tokens,
        budget=request.budget,
        by_name=by_name,
        fixed=(BACKGROUND,),
    )


def things_in(present: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Return the names in each image, without the background."""
    return {image_id: foreground(names) for image_id, names in present.items()}


def with_background(request: Request, dealt: Mapping[str, Sequence[str]]) -> Captions:
    """Replace each image's names, in class order and then distractors; the background is unchanged."""
    names = {i: (*said, *[BACKGROUND] * (BACKGROUND in request.present[i])) for i, said in dealt.items()}
    order = [*request.classes, *request.caption.distractors]
    return Captions({i: request.join(sorted(said, key=order.index)) for i, said in names.items()}, names)


def foreground(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names without the background."""
    return tuple(name for name in names if name != BACKGROUND)


def dealt_out(present: Mapping[str, Sequence[str]], seed: int) -> dict[str, Sequence[str]]:
    """Permute the names over the images, so that each image gets those of another one.

    Raises:
        UserError: there is one image only.
    """
    if len(present) == 1:
        raise UserError(
            "caption.source: shuffled: needs two images or more, since each gets another one's names; there is one"
        )
    ids = sorted(present)
    random.Random(f"{seed}/shuffled").shuffle(ids)
    return {image_id: present[ids[place - 1]] for place, image_id in enumerate(ids)}


def absent_names(present: Mapping[str, Sequence[str]], classes: Sequence[str], seed: int) -> dict[str, list[str]]:
    """Return as many names as each image has, none of which it contains."""
    said = {}
    for image_id, shown in present.items():
        rng = random.Random(f"{seed}/wrong/{image_id}")
        ranked = sorted((name for name in classes if name not in shown), key=lambda _: rng.random())
        said[image_id] = ranked[: len(shown)]
    return said


def vocabulary(classes: Sequence[str], distractors: Sequence[str]) -> list[str]:
    """Return every name that an oracle may use: the classes in index order, then the distractors.

    Raises:
        UserError: a distractor is a class, in its plural or by an everyday synonym, too, or is named twice.
    """
    names = [*classes, *distractors]
    if twice := repeated(names):
        raise UserError(
            f"caption.distractors: {twice[0]!r} is a class already or is named twice; a name said falsely must be "
            "in no image, so leave it out"
        )
    words = everyday(classes)
    meant = {form: name for name in classes for word in (name, *words.get(name, ())) for form in forms(word)}
    for distractor in distractors:
        if same := next((meant[form] for form in forms(distractor) if form in meant), None):
            raise UserError(
                f"caption.distractors: {distractor!r} is another word for the class {same!r}; a name said falsely must be in "
                "no image, so leave it out"
            )
    return names
