"""Prompts: what the text encoder is given for each image of a data set, made as a recipe's `caption` part asks."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tadp_ray.captions.alignment import Fit, exact
from tadp_ray.captions.describe import plain_sentence
from tadp_ray.captions.precision_recall import Score, degrade, score
from tadp_ray.captions.store import read_store
from tadp_ray.captions.synonyms import everyday
from tadp_ray.config.vocabulary import BACKGROUND, CAPTION
from tadp_ray.errors import UserError

if TYPE_CHECKING:
    from tadp_ray.config.data import CaptionConfig

Prompt = str | tuple[str, ...]
"""One text, or names that are encoded one by one (`caption.encoding`)."""


def as_text(prompt: Prompt) -> str:
    """A prompt for people and files: a text as it stands, names apart by commas."""
    return prompt if isinstance(prompt, str) else ", ".join(prompt)


@dataclass(frozen=True)
class Prompts:
    """One prompt by image id, how many of them the text encoder will cut short, and how well their names fit the images."""

    by_id: Mapping[str, Prompt]
    truncated: int
    score: Score
    """Over the data set."""
    fits: Mapping[str, Fit]
    """By image id."""

    def __getitem__(self, image_id: str) -> Prompt:
        return self.by_id[image_id]

    @property
    def precision(self) -> float | None:
        """Realised micro precision over the data set; None if no class is named."""
        return self.score.precision

    @property
    def recall(self) -> float | None:
        """Realised micro recall over the data set; None if no image shows a class."""
        return self.score.recall


def make_prompts(
    caption: CaptionConfig,
    present: Mapping[str, Sequence[str]],
    classes: Sequence[str],
    seed: int,
    count_tokens: Callable[[str], int],
    budget: int = 75,
    say: Callable[[str, Sequence[str]], str] = plain_sentence,
) -> Prompts:
    """The prompt of every image of a data set: a text, or a tuple of names where `caption.encoding` is not `text`.

    - `null`: the empty prompt.
    - `class_names`: all class names, the same for every image.
    - `sentence`: one sentence for every image.
    - `oracle`: the names present in the image, degraded to the precision and recall asked for; never over budget.
    - `template`: a captioner's sentence, of the same precision and recall over the data set, which forgets and invents each
      name by itself; its other words may take it over budget.
    - `store`: the first caption of the image in a caption store; with `shuffle`, here and in a template, words in random
      order.
    - `shuffled`: the names present in another image; the same prompts as the oracle's, dealt out anew.
    - `wrong`: as many absent names as are present, as far as there are.

    The caption's modifiers are put around each of these, the first of them first. A class called background is said where an
    image shows it, never forgotten nor invented, or else left aside (`include_background`); no figure counts it.

    Args:
        caption: which of them, and its settings.
        present: class names in the full image, by image id; its keys are the images of the data set.
        classes: all class names, in index order.
        seed: of the oracle's chance.
        count_tokens: tokens of a text without start and end marks.
        budget: tokens that the text encoder reads; 75 is CLIP's 77 less the two marks. Longer texts are not refused,
            as CLIP cuts them in the published code too, but counted in `truncated`.
        say: the sentence of a template captioner that names these in an image, by its id.

    Raises:
        UserError: images without a caption in the store, a distractor that is a class, a precision or recall that cannot
            be met, or modifiers that leave a caption no room.
    """
    room = budget - count_tokens(modified("", caption.modifiers))
    if room < 1:
        raise UserError(
            f"caption.modifiers: {modified(CAPTION, caption.modifiers)!r} has {budget - room} tokens without a caption, of which "
            f"this model's text encoder reads {budget}; shorten it"
        )
    if not caption.include_background:
        classes, present = foreground(classes), {image_id: foreground(names) for image_id, names in present.items()}
    said: Mapping[str, Sequence[str]]
    by_id: Mapping[str, Prompt]
    joined = " ".join if caption.encoding == "text" else tuple
    match caption.source:
        case "null":
            said, by_id = dict.fromkeys(present, ()), dict.fromkeys(present, "")
        case "class_names":
            said, by_id = dict.fromkeys(present, classes), dict.fromkeys(present, joined(classes))
        case "sentence":
            by_id = dict.fromkeys(present, caption.sentence)
            said = mentioned_classes(by_id, classes)
        case "oracle" | "template":
            said = degrade(
                present,
                vocabulary(classes, caption.distractors),
                precision=caption.precision,
                recall=caption.recall,
                min_true=caption.min_true,
                shuffle=caption.shuffle and caption.source == "oracle",
                seed=seed,
                count_tokens=count_tokens,
                budget=room,
                by_name=caption.source == "template",
                fixed=(BACKGROUND,),
            )
            speaks = caption.source == "template" and caption.wording != "names"
            worded = say if speaks else lambda _, names: joined(names)
            by_id = {image_id: worded(image_id, names) for image_id, names in said.items()}
        case "shuffled" | "wrong":
            things = {image_id: foreground(names) for image_id, names in present.items()}
            dealt = (
                dealt_out(things, seed)
                if caption.source == "shuffled"
                else absent_names(things, foreground(classes), seed)
            )
            said = {i: (*names, *[BACKGROUND] * (BACKGROUND in present[i])) for i, names in dealt.items()}
            by_id = {image_id: joined(sorted(names, key=list(classes).index)) for image_id, names in said.items()}
        case "store":
            store = read_store(caption.store)
            store.check(present)
            by_id = {image_id: store.captions[image_id][0] for image_id in present}
            said = mentioned_classes(by_id, classes)
        case _:
            raise AssertionError(f"the schema let caption.source {caption.source!r} through")
    if caption.shuffle and caption.source in ("store", "template"):
        by_id = {image_id: shuffled_words(text, seed, image_id) for image_id, text in by_id.items()}
    if caption.modifiers:
        by_id = {image_id: modified(text, caption.modifiers) for image_id, text in by_id.items()}
    uses = Counter(prompt if isinstance(prompt, str) else " ".join(prompt) for prompt in by_id.values())
    truncated = sum(n for text, n in uses.items() if count_tokens(text) > budget)
    said, shown = ({i: foreground(names) for i, names in every.items()} for every in (said, present))
    fits = {image_id: Fit(frozenset(names), frozenset(shown[image_id])) for image_id, names in said.items()}
    return Prompts(by_id, truncated, score(said, shown), fits)


def foreground(names: Sequence[str]) -> tuple[str, ...]:
    """Names without that of the background."""
    return tuple(name for name in names if name != BACKGROUND)


def mentioned_classes(texts: Mapping[str, str], classes: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The class names that texts say, as far as they are known by exact words and everyday synonyms."""
    match = exact(classes, everyday(classes))
    known = {text: match(text) for text in set(texts.values())}
    return {image_id: known[text] for image_id, text in texts.items()}


def modified(text: str, modifiers: Sequence[str]) -> str:
    """A text as modifiers ask for it: each takes up what the one before made."""
    for modifier in modifiers:
        text = modifier.replace(CAPTION, text)
    return text


def shuffled_words(text: str, seed: int, image_id: str) -> str:
    """The words of a text, apart by spaces, in random order."""
    rng = random.Random(f"{seed}/words/{image_id}")
    return " ".join(sorted(text.split(), key=lambda _: rng.random()))


def dealt_out(present: Mapping[str, Sequence[str]], seed: int) -> dict[str, Sequence[str]]:
    """Each image's names from another image, every image's given once."""
    ids = sorted(present)
    random.Random(f"{seed}/shuffled").shuffle(ids)
    return {image_id: present[ids[place - 1]] for place, image_id in enumerate(ids)}


def absent_names(present: Mapping[str, Sequence[str]], classes: Sequence[str], seed: int) -> dict[str, list[str]]:
    """As many names as each image shows, none of which it shows."""
    said = {}
    for image_id, shown in present.items():
        rng = random.Random(f"{seed}/wrong/{image_id}")
        ranked = sorted((name for name in classes if name not in shown), key=lambda _: rng.random())
        said[image_id] = ranked[: len(shown)]
    return said


def vocabulary(classes: Sequence[str], distractors: Sequence[str]) -> list[str]:
    """Every name that an oracle may say: the classes in index order, then the distractors.

    Raises:
        UserError: a name stands there twice.
    """
    names = [*classes, *distractors]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise UserError(
            f"caption.distractors: {twice[0]!r} is a class already or stands there twice; a name said falsely must be "
            "in no image, so leave it out"
        )
    return names
