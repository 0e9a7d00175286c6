"""Caption stores made from the ground-truth class names, complete or at a given precision and recall."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

from tadp_ray.captions.precision_recall import degrade, score
from tadp_ray.captions.sources import foreground, vocabulary
from tadp_ray.captions.store import ORACLES, CaptionStore
from tadp_ray.config.vocabulary import BACKGROUND
from tadp_ray.errors import UserError


def oracle_store(
    present: Mapping[str, Sequence[str]], classes: Sequence[str], made: Mapping[str, object]
) -> CaptionStore:
    """Return a store whose captions are the class names in each image, in class order; `made` is added to the header."""
    place = {name: index for index, name in enumerate(classes)}
    names = {image_id: tuple(sorted(shown, key=place.__getitem__)) for image_id, shown in present.items()}
    return _store(names, {"captioner": ORACLES[0], "classes": list(classes), **made})


def degraded_store(
    oracle: CaptionStore,
    *,
    precision: float,
    recall: float,
    seed: int,
    count_tokens: Callable[[str], int],
    budget: int,
    min_true: int = 1,
    shuffle: bool = False,
    distractors: Sequence[str] = (),
) -> CaptionStore:
    """Return an oracle store degraded to a precision and recall over all its images, see `degrade`.

    The header contains the settings, the digest of the oracle, and under `realised` the result of `score`, without the
    background, which is neither removed nor added.

    Raises:
        UserError: it is not an oracle store, or see `degrade`.
    """
    classes, present = names_of(oracle)
    settings = {"precision": precision, "recall": recall, "min_true": min_true, "shuffle": shuffle, "seed": seed}
    names = vocabulary(classes, distractors)
    try:
        said = degrade(present, names, count_tokens=count_tokens, budget=budget, fixed=(BACKGROUND,), **settings)
    except UserError as error:
        raise UserError(f"{oracle.path or 'this caption store'}: {error}") from None
    made = {
        "captioner": ORACLES[1],
        "oracle": oracle.digest(),
        "classes": classes,
        "distractors": list(distractors),
    }
    realised = asdict(score(*({i: foreground(n) for i, n in names.items()} for names in (said, present))))
    return _store(said, made | settings | {"budget": budget, "realised": realised})


def names_of(oracle: CaptionStore) -> tuple[list[str], Mapping[str, tuple[str, ...]]]:
    """Return the class names of an oracle store, and those in each image.

    Raises:
        UserError: it is not an oracle store.
    """
    if oracle.header.get("captioner") != ORACLES[0] or oracle.names.keys() != oracle.captions.keys():
        raise UserError(
            f"{oracle.path or 'this caption store'}: was not made by tadp-ray caption oracle, so it does not say which "
            "names each image shows; make an oracle store of these images and name that"
        )
    return list(oracle.header["classes"]), oracle.names


def _store(names: Mapping[str, tuple[str, ...]], header: Mapping[str, object]) -> CaptionStore:
    return CaptionStore({image_id: (" ".join(said),) for image_id, said in names.items()}, header, names=names)
