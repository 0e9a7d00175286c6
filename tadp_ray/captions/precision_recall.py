"""Degrades oracle captions to a precision and recall (Table S2): removes correct names and adds wrong ones."""

import math
import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tadp_ray.errors import UserError

TOLERANCE = 0.01
SELECTION = "; of a sweep, select the values that can be met, e.g. --only caption.precision=1.0"


@dataclass(frozen=True)
class Score:
    """Precision and recall of names in captions, each in [0, 1], or None without any names.

    Micro pools the names of the whole data set. Macro averages over images: precision over those with a named class, recall
    over those with a present class.
    """

    precision: float | None
    recall: float | None
    macro_precision: float | None
    macro_recall: float | None


def score(said: Mapping[str, Sequence[str]], present: Mapping[str, Sequence[str]]) -> Score:
    """Compute the realized precision and recall of the names in each image's caption."""
    counts = [(len({*said[i]} & {*present[i]}), len({*said[i]}), len({*present[i]})) for i in present]
    hits, spoken, true = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0, 0)
    precisions = [hit / n for hit, n, _ in counts if n]
    recalls = [hit / n for hit, _, n in counts if n]
    return Score(
        precision=hits / spoken if spoken else None,
        recall=hits / true if true else None,
        macro_precision=math.fsum(precisions) / len(precisions) if precisions else None,
        macro_recall=math.fsum(recalls) / len(recalls) if recalls else None,
    )


class _Draw:
    """The random numbers of one image, a function of (seed, id), independent of the order of images, precision and recall.

    `random.Random(str)` hashes with SHA-512, and only `random()` is guaranteed to be stable over Python versions.
    """

    def __init__(
        self, seed: int, image_id: str, vocabulary: Sequence[str], present: Iterable[str], fixed: Collection[str]
    ):
        rng = random.Random(f"{seed}/{image_id}")
        self.rank = rank = {name: rng.random() for name in vocabulary}
        self.place = {name: rng.random() for name in vocabulary}
        self.true_offset, self.false_offset = rng.random(), rng.random()
        present = set(present)
        if unknown := present - rank.keys():
            raise UserError(f"image {image_id!r}: the present name {min(unknown)!r} is not in the class list")
        self.fixed = sorted(present & {*fixed})
        self.true = sorted(present - {*fixed}, key=rank.__getitem__)
        self.false = sorted(rank.keys() - present - {*fixed}, key=rank.__getitem__)


def degrade(
    present: Mapping[str, Sequence[str]],
    vocabulary: Sequence[str],
    *,
    precision: float,
    recall: float,
    min_true: int,
    shuffle: bool,
    seed: int,
    count_tokens: Callable[[str], int],
    budget: int,
    by_name: bool = False,
    fixed: Collection[str] = (),
) -> dict[str, tuple[str, ...]]:
    """Keep a fraction `recall` of each image's present names, and add absent ones until a fraction `precision` is correct.

    An image with n present names keeps tp of them, the stochastic rounding of t * n with at least `min_true`, and gets the
    stochastic rounding of f * tp absent ones; t and f are solved for over the whole data set, so that the micro averages meet
    the target to within one name, and other images compensate for minimums and token budgets. The names kept at a low recall
    are among those kept at a higher one; correct names do not depend on the precision; wrong names at a high precision are
    among those at a lower one.

    With `by_name` each name is drawn independently, so that the values of images scatter like a captioner's, while those of the
    data set meet the target, too.

    Args:
        present: class names in the full image, by image id.
        vocabulary: all names that may be used, in the order of a caption unless `shuffle`: the classes and the distractors.
        precision: (0, 1].
        recall: [0, 1].
        min_true: minimum number of correct names of an image that has any, including fixed ones.
        shuffle: use a random order per image.
        seed: of the random numbers, with the image id.
        count_tokens: counts the tokens of a name without the bos and eos tokens; a prompt is assumed to have their sum.
        budget: maximum number of tokens of a prompt. Wrong names are dropped first, then correct ones.
        by_name: draw each name independently, instead of the same fraction in every image.
        fixed: names that every image with them keeps, that no other image gets, and that do not count.

    Returns: the names in each image's caption, by image id.

    Raises:
        UserError: a target is out of range or cannot be met within max(0.01, one name of the data set's).

    Source: supplement, Table S2; the sampling is ours, as none is published.
    """
    if not 0 < precision <= 1:
        raise UserError(
            f"caption.precision: {precision} is outside (0, 1]; at precision 0 a prompt with any true name would need "
            "infinitely many false ones, set a small precision such as 0.1"
        )
    if not 0 <= recall <= 1:
        raise UserError(f"caption.recall: {recall} is outside [0, 1]")
    tokens = {name: count_tokens(name) for name in vocabulary}
    draws = {i: _Draw(seed, i, vocabulary, present[i], fixed) for i in sorted(present)}
    true = _keep_true(draws, recall, min_true, tokens, budget, by_name)
    false = _add_false(draws, true, precision, tokens, budget, by_name)
    index = {name: k for k, name in enumerate(vocabulary)}
    order = {i: draw.place if shuffle else index for i, draw in draws.items()}
    return {i: tuple(sorted(draws[i].fixed + true[i] + false[i], key=order[i].__getitem__)) for i in present}


def _keep_true(
    draws: Mapping[str, _Draw], recall: float, min_true: int, tokens: Mapping[str, int], budget: int, by_name: bool
) -> dict[str, list[str]]:
    fitting = {i: _fit(draw.true, tokens, budget - _count(draw.fixed, tokens)) for i, draw in draws.items()}
    total = sum(len(draw.true) for draw in draws.values())
    floors = {i: max(min_true - len(draw.fixed), 0) for i, draw in draws.items()}
    floor = sum(min(floors[i], len(names)) for i, names in fitting.items())
    wanted = max(round(recall * total), floor)

    def level(image_id: str, k: int) -> float:
        draw = draws[image_id]
        if k < floors[image_id]:
            return -1.0
        # The k-th name of n is kept once t passes (k + offset) / n: stochastic rounding of t * n, and nested in t.
        return draw.rank[draw.true[k]] if by_name else (k + draw.true_offset) / len(draw.true)

    taken = _lowest(level, fitting, wanted)
    kept, tolerance = taken.total(), max(TOLERANCE * total, 1)
    if kept - recall * total > tolerance:
        least = math.ceil(100 * floor / total) / 100
        raise UserError(
            f"recall {recall} cannot be reached with min_true={min_true} because {floor} of the {total} present names "
            f"are then always said; set caption.min_true: 0 or raise caption.recall to {least} or more"
        )
    if recall * total - kept > tolerance:
        crowded = sum(len(names) < len(draws[i].true) for i, names in fitting.items())
        raise UserError(
            f"recall {recall} cannot be reached within {budget} tokens: it needs {wanted} true names but only {kept} "
            f"fit, as {crowded} of {len(draws)} images hold more names than one prompt can say; lower caption.recall "
            f"to {math.floor(100 * kept / total) / 100} or less"
        )
    return {i: names[: taken[i]] for i, names in fitting.items()}


def _add_false(
    draws: Mapping[str, _Draw],
    true: Mapping[str, Sequence[str]],
    precision: float,
    tokens: Mapping[str, int],
    budget: int,
    by_name: bool,
) -> dict[str, list[str]]:
    hits = sum(map(len, true.values()))
    if precision < 1 and not hits:
        raise UserError(
            f"precision {precision} is undefined where no true name is said; raise caption.recall, or set "
            "caption.precision: 1.0 for the empty prompt"
        )
    fitting = {
        i: _fit(draw.false, tokens, budget - _count([*draw.fixed, *true[i]], tokens)) if true[i] else []
        for i, draw in draws.items()
    }
    wanted = round(hits * (1 - precision) / precision)

    def level(image_id: str, k: int) -> float:
        draw = draws[image_id]
        return draw.rank[draw.false[k]] if by_name else (k + draw.false_offset) / len(true[image_id])

    taken = _lowest(level, fitting, wanted)
    added = taken.total()
    if wanted > added and hits / (hits + added) - precision > max(TOLERANCE, 1 / (hits + added)):
        absent = sum(len(draw.false) for i, draw in draws.items() if true[i])
        reached = math.ceil(100 * hits / (hits + added)) / 100
        lower = "lower caption.recall, " if added else ""
        more = " or more" if reached < 1 else ""
        raise UserError(
            f"precision {precision} needs {wanted} false names over all images, but these lack only {absent} names, of "
            f"which {added} fit into {budget} tokens; name things that are in no image in caption.distractors, {lower}or "
            f"raise caption.precision to {reached}{more}{SELECTION}"
        )
    return {i: names[: taken[i]] for i, names in fitting.items()}


def _count(names: Iterable[str], tokens: Mapping[str, int]) -> int:
    return sum(tokens[name] for name in names)


def _fit(names: Sequence[str], tokens: Mapping[str, int], budget: int) -> list[str]:
    """Return the longest prefix of `names` whose tokens fit into `budget`."""
    fitting: list[str] = []
    for name in names:
        budget -= tokens[name]
        if budget < 0:
            break
        fitting.append(name)
    return fitting


def _lowest(level: Callable[[str, int], float], names: Mapping[str, Sequence[str]], count: int) -> Counter[str]:
    """Return how many names each image gets if `count` are chosen, those with the lowest levels in the whole data set.

    `level` is given an image's id and the place of one of its names.
    """
    levels = ((level(image_id, place), image_id) for image_id, own in names.items() for place in range(len(own)))
    # Faster than a heap, as a good part of the names is chosen.
    return Counter(image_id for _, image_id in sorted(levels)[:count])
