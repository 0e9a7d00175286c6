"""Measures precision and recall of the class names in captions (Figure S5)."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from tadp_ray.captions.describe import plural
from tadp_ray.captions.precision_recall import Score, score
from tadp_ray.errors import UserError
from tadp_ray.files import composed
from tadp_ray.wording import pluralized

THRESHOLD = 0.9
"""Minimum similarity at which a word matches a class (Figure S5)."""

Match = Callable[[str], tuple[str, ...]]
"""Returns the class names in a text, each once, in class order."""
Similarity = Callable[[Sequence[str], Sequence[str]], np.ndarray]
"""Returns the cosines (W, C) in [-1, 1] of W texts and C class names."""


@dataclass(frozen=True)
class Fit:
    """The class names in one image's text, and those in the image."""

    said: frozenset[str]
    present: frozenset[str]

    @property
    def precision(self) -> float | None:
        """Fraction of the names in the text that are in the image; None without names in the text."""
        return len(self.said & self.present) / len(self.said) if self.said else None

    @property
    def recall(self) -> float | None:
        """Fraction of the names in the image that are in the text; None without names in the image."""
        return len(self.said & self.present) / len(self.present) if self.present else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of both; None without any names."""
        total = len(self.said) + len(self.present)
        return 2 * len(self.said & self.present) / total if total else None


@dataclass(frozen=True)
class Alignment:
    """Fits by image id, and their micro and macro averages over the data set."""

    images: Mapping[str, Fit]
    score: Score
    f1: float | None
    """Micro average."""
    macro_f1: float | None
    """Macro average over the images that have a value."""


def align(texts: Mapping[str, str], present: Mapping[str, Sequence[str]], match: Match) -> Alignment:
    """Compute precision, recall and F1 of the class names in each image's text.

    Args:
        texts: by image id, e.g. the `by_id` of `Prompts`; texts of other images are ignored.
        present: class names in the full image, by image id.
        match: finds the names; from `exact` or `similar`.

    Raises:
        UserError: an image has no text.
    """
    if missing := sorted(present.keys() - texts.keys()):
        raise UserError(
            f"no text for {len(missing)} of {pluralized(len(present), 'images')}, e.g. {missing[0]!r}; measure texts that were "
            "made for these images"
        )
    said = {image_id: match(texts[image_id]) for image_id in present}
    fits = {image_id: Fit(frozenset(said[image_id]), frozenset(present[image_id])) for image_id in present}
    pooled = sum(len(fit.said) + len(fit.present) for fit in fits.values())
    single = [fit.f1 for fit in fits.values() if fit.f1 is not None]
    return Alignment(
        fits,
        score(said, present),
        2 * sum(len(fit.said & fit.present) for fit in fits.values()) / pooled if pooled else None,
        sum(single) / len(single) if single else None,
    )


def exact(classes: Sequence[str], synonyms: Mapping[str, Sequence[str]] | None = None) -> Match:
    """Match names by their own words, singular or plural, and by synonyms if given.

    A name of several words is matched as a whole: `coffee table` does not match `table`. A word that is itself a class is not
    used as a synonym.
    """
    meant: dict[str, set[str]] = {}
    for name in classes:
        meant.setdefault(" ".join(words(name)), set()).add(name)
    # The plural of a class may be a class of its own: glass and glasses.
    singular = set(meant)
    for name in classes:
        for form in forms(name) - singular:
            meant.setdefault(form, set()).add(name)
    own = set(meant)
    for name, others in (synonyms or {}).items():
        for form in {form for word in others for form in forms(word)} - own:
            meant.setdefault(form, set()).add(name)
    longest = max((len(form.split()) for form in meant), default=1)
    return partial(names_said, classes=classes, meant=meant, longest=longest)


def similar(
    texts: Iterable[str], classes: Sequence[str], similarity: Similarity, threshold: float = THRESHOLD
) -> Match:
    """Match a word with every class above the threshold, and a phrase of n words with class names of n words.

    Args:
        texts: all texts to match, so that each distinct word is encoded once.
        classes: names in class order.
        similarity: see `conditioning.similarity.text_similarity`.
        threshold: minimum cosine of a match.

    Source: Figure S5 matches single words; phrases are our addition, for names such as `potted plant`.
    """
    # A name such as '-' has no words, so no text matches it.
    lengths = {name: len(words(name)) for name in classes if words(name)}
    meant: dict[str, set[str]] = {}
    spoken = [words(text) for text in dict.fromkeys(texts)]
    sizes = sorted({1, *lengths.values()})
    known: set[str] = set()
    for length in sizes:
        names = [name for name, count in lengths.items() if length in (1, count)]
        phrases = sorted({run for said in spoken for _, run in runs(said, length)})
        known.update(phrases)
        near = (
            similarity(phrases, [" ".join(words(name)) for name in names]) >= threshold if phrases else np.empty((0, 0))
        )
        for word, name in np.argwhere(near):
            meant.setdefault(phrases[word], set()).add(names[name])

    def match(text: str) -> tuple[str, ...]:
        phrases = {run for size in sizes for _, run in runs(words(text), size)}
        assert phrases <= known, "the text was not among the texts to match"
        said = {name for run in phrases for name in meant.get(run, ())}
        return tuple(name for name in classes if name in said)

    return match


def names_said(text: str, classes: Sequence[str], meant: Mapping[str, set[str]], longest: int) -> tuple[str, ...]:
    """Return the names that a text's phrases match, longest phrases first; a word belongs to one phrase."""
    spoken = words(text)
    taken: set[int] = set()
    said: set[str] = set()
    for length in range(longest, 0, -1):
        for start, run in runs(spoken, length):
            positions = range(start, start + length)
            if taken.isdisjoint(positions) and run in meant:
                said |= meant[run]
                taken.update(positions)
    return tuple(name for name in classes if name in said)


def words(text: str) -> list[str]:
    """Split a text into lower-case words without punctuation; hyphens and underscores separate words.

    A letter and its accent are one character, as keyboards write them, and not two, as some programs do.
    """
    return re.findall(r"[^\W_]+", composed(text).lower())


def runs(spoken: Sequence[str], length: int) -> Iterator[tuple[int, str]]:
    """Yield each phrase of `length` words with its position."""
    return ((start, " ".join(spoken[start : start + length])) for start in range(len(spoken) - length + 1))


def forms(name: str) -> set[str]:
    """Return the singular and plural of a name; that of `chest of drawers` is `chests of drawers`. None of `-`."""
    if not words(name):
        return set()
    head, of, rest = " ".join(words(name)).partition(" of ")
    *before, noun = head.split()
    return {head + of + rest, " ".join([*before, plural(noun)]) + of + rest}
