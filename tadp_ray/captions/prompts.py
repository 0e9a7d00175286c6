"""Makes the prompts of a data set's images from a recipe's `caption` group."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING

from tadp_ray.captions.alignment import Fit
from tadp_ray.captions.describe import plain_sentence
from tadp_ray.captions.precision_recall import Score, score
from tadp_ray.captions.sources import Captions, Prompt, Request, foreground, things_in
from tadp_ray.captions.synonyms import mentioned_classes
from tadp_ray.config.vocabulary import CAPTION
from tadp_ray.errors import UserError
from tadp_ray.registry import CAPTION_SOURCES, ENCODINGS, implementation
from tadp_ray.wording import first_few, pluralized, type_named

if TYPE_CHECKING:
    from tadp_ray.config.data import CaptionConfig


def as_text(prompt: Prompt) -> str:
    """Return a prompt as text; names are separated by commas."""
    return prompt if isinstance(prompt, str) else ", ".join(prompt)


def parts(prompt: Prompt) -> tuple[str, ...]:
    """Return the texts of a prompt that are encoded separately."""
    return (prompt,) if isinstance(prompt, str) else prompt


@dataclass(frozen=True)
class Prompts:
    """Prompts by image id, how many of them the text encoder truncates, and the precision and recall of their names.

    The latter are computed at their first use, since the check of a plan makes the prompts of many cells and needs neither.
    """

    by_id: Mapping[str, Prompt]
    made: Captions
    """The captions before they were shuffled and modified."""
    present: Mapping[str, Sequence[str]]
    """Names of the classes in each image."""
    classes: Sequence[str]
    """All class names that captions may name."""
    count_tokens: Callable[[str], int]
    """Counts the tokens of a text without special tokens."""
    budget: int
    """Maximum number of tokens of the text encoder."""

    def __getitem__(self, image_id: str) -> Prompt:
        return self.by_id[image_id]

    @cached_property
    def truncated(self) -> int:
        """How many prompts are longer than the budget, or have such a name, where each name is encoded by itself."""
        return sum(not self._cut.isdisjoint(parts(prompt)) for prompt in self.by_id.values())

    @cached_property
    def _cut(self) -> frozenset[str]:
        """The texts that are longer than the budget."""
        texts = {text for prompt in self.by_id.values() for text in parts(prompt)}
        return frozenset(text for text in texts if self.count_tokens(text) > self.budget)

    @cached_property
    def said(self) -> Mapping[str, Sequence[str]]:
        """The class names in each caption that the text encoder reads, without the background."""
        names = self.made.names
        if names is None:
            texts = {image_id: as_text(prompt) for image_id, prompt in self.made.prompts.items()}
            names = mentioned_classes(texts, self.classes)
        read = cache(self._read)
        return {
            image_id: foreground(read(prompt, tuple(names[image_id])) if prompt in self._cut else names[image_id])
            for image_id, prompt in self.by_id.items()
        }

    def _read(self, text: str, names: Sequence[str]) -> tuple[str, ...]:
        """Return the names that stand in the words of a text which fit into the budget."""
        return mentioned_classes({"": self.read(text)}, list(dict.fromkeys(names)))[""]

    def read(self, text: str) -> str:
        """Return the words of a text, one of the parts of a prompt, that the text encoder reads: those within the budget."""
        if text not in self._cut:
            return text
        words = text.split()
        fit = bisect_right(range(1, len(words)), self.budget, key=lambda n: self.count_tokens(" ".join(words[:n])))
        return " ".join(words[:fit])

    @cached_property
    def shown(self) -> Mapping[str, Sequence[str]]:
        """The class names in each image, without the background."""
        return things_in(self.present)

    @cached_property
    def score(self) -> Score:
        """Precision and recall over the data set."""
        return score(self.said, self.shown)

    @cached_property
    def fits(self) -> Mapping[str, Fit]:
        """Precision and recall by image id."""
        return {image_id: Fit(frozenset(each), frozenset(self.shown[image_id])) for image_id, each in self.said.items()}


def make_prompts(
    caption: CaptionConfig,
    present: Mapping[str, Sequence[str]],
    classes: Sequence[str],
    seed: int,
    count_tokens: Callable[[str], int],
    budget: int = 75,
    say: Callable[[str, Sequence[str]], str] = plain_sentence,
) -> Prompts:
    """Make the prompt of every image of a data set: a text, or a tuple of names if `caption.encoding` reads names.

    The caption's source makes them (`tadp_ray.captions.sources`), and its modifiers are applied in order. A class called
    background is named in exactly the images that contain it, or left out (`include_background`); it does not count for precision
    and recall.

    Args:
        caption: the source, and its settings.
        present: class names in the full image, by image id; its keys are the images of the data set.
        classes: all class names, in index order.
        seed: of random captions.
        count_tokens: counts the tokens of a text without the bos and eos tokens.
        budget: maximum number of tokens of the text encoder; 75 is CLIP's 77 without bos and eos. Longer texts are truncated, as
            in the published code, and counted in `truncated`.
        say: returns a template captioner's sentence for an image id and names.

    Raises:
        UserError: the source fails, or the modifiers leave no room for a caption.
    """
    room = budget - count_tokens(modified("", caption.modifiers))
    if room < 1:
        raise UserError(
            f"caption.modifiers: {modified(CAPTION, caption.modifiers)!r} has {budget - room} tokens without a caption, of which "
            f"this model's text encoder reads {budget}; shorten it"
        )
    if not caption.include_background:
        classes, present = foreground(classes), things_in(present)
    join = tuple if ENCODINGS[caption.encoding].of_names else " ".join
    source = implementation(CAPTION_SOURCES[caption.source].implementation)
    request = Request(caption, present, classes, seed, count_tokens, room, say, join)
    made = check_captions(source(request), caption, present)
    by_id = {image_id: made.prompts[image_id] for image_id in present}
    if caption.shuffle and made.sentences:
        by_id = {image_id: shuffled_words(as_text(prompt), seed, image_id) for image_id, prompt in by_id.items()}
    if caption.modifiers:
        by_id = {image_id: modified(as_text(prompt), caption.modifiers) for image_id, prompt in by_id.items()}
    return Prompts(by_id, made, present, classes, count_tokens, budget)


def check_captions(made: object, caption: CaptionConfig, images: Collection[str]) -> Captions:
    """Return what a source, which may be a plug-in's, has made of images, after a check.

    Raises:
        UserError: it is no `Captions`, or an image has no prompt or names, or something else in their place.
    """
    place = f"caption source {caption.source!r}"
    if not isinstance(made, Captions):
        raise UserError(f"{place} returned {type_named(made)}, expected Captions")
    check_images(made.prompts, images, f"{place}: no prompt")
    if made.names is not None:
        check_images(made.names, images, f"{place}: no names")
    of_names = ENCODINGS[caption.encoding].of_names
    found, expected = ("text", "tuple of names") if of_names else ("tuple", "text")
    for image_id in images:
        prompt = made.prompts[image_id]
        if not isinstance(prompt, str) and not is_names(prompt):
            raise UserError(
                f"{place}: prompt of {image_id!r} is {type_named(prompt)}, expected a text or a tuple of texts"
            )
        if isinstance(prompt, str) == of_names:
            raise UserError(
                f"{place}: prompt of {image_id!r} is a {found}, expected a {expected}, which caption.encoding: "
                f"{caption.encoding} reads; make it of names with Request.join"
            )
        if made.names is not None and not is_names(made.names[image_id], list):
            raise UserError(
                f"{place}: names of {image_id!r} are {type_named(made.names[image_id])}, expected a tuple of texts"
            )
    return made


def check_images(by_id: object, images: Collection[str], problem: str) -> None:
    """Check that a mapping has all image ids (UserError names the first that it lacks)."""
    if not isinstance(by_id, Mapping):
        raise UserError(f"{problem} by image id: they are {type_named(by_id)}, expected a dict")
    if missing := [image_id for image_id in images if image_id not in by_id]:
        raise UserError(f"{problem} for {pluralized(len(missing), 'images')}: {first_few(map(repr, missing))}")


def is_names(value: object, *others: type) -> bool:
    """Return whether a value is a tuple, or one of other sequences, of texts."""
    return isinstance(value, (tuple, *others)) and all(isinstance(name, str) for name in value)


def modified(text: str, modifiers: Sequence[str]) -> str:
    """Apply the modifiers to a text, one after another."""
    for modifier in modifiers:
        text = modifier.replace(CAPTION, text)
    return text


def shuffled_words(text: str, seed: int, image_id: str) -> str:
    """Shuffle the words of a text, which are separated by spaces."""
    rng = random.Random(f"{seed}/words/{image_id}")
    return " ".join(sorted(text.split(), key=lambda _: rng.random()))
