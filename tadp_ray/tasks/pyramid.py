"""What a head may ask of a backbone's pyramid of features: how many levels it has, and how their sizes are related."""

from collections.abc import Sequence
from itertools import pairwise

from tadp_ray.errors import UserError


def unfit(kind: str, strides: Sequence[int], wanted: str) -> UserError:
    """The error of a head that is not made for a backbone's levels.

    Args:
        kind: of the head, as a recipe names it.
        strides: of the levels.
        wanted: what the head is made for.
    """
    return UserError(
        f"model.head.kind={kind}: it is made for {wanted}, but the backbone has {len(strides)} with strides of "
        f"{', '.join(map(str, strides))} pixels; name another head, or another backbone"
    )


def halvings(kind: str, strides: Sequence[int]) -> list[int]:
    """How often the largest level has been halved at each level: 0, 1, 2, 3 for strides of 8, 16, 32 and 64 pixels.

    Args:
        kind: of the head that asks, as a recipe names it.
        strides: of the levels, largest level first.

    Raises:
        UserError: a level is larger than the one before it, or a stride is not a power of two times the first.
    """
    ratios = [stride / strides[0] for stride in strides]
    if any(after < before for before, after in pairwise(strides)) or any(
        not ratio.is_integer() or int(ratio).bit_count() != 1 for ratio in ratios
    ):
        raise unfit(kind, strides, "levels whose strides are powers of two times the first")
    return [int(ratio).bit_length() - 1 for ratio in ratios]


def check_doubling(kind: str, strides: Sequence[int]) -> None:
    """Refuse levels of which one is not half as large as the one before it.

    Raises:
        UserError: see above.
    """
    if any(after != 2 * before for before, after in pairwise(strides)):
        raise unfit(kind, strides, "levels each of which has twice the stride of the one before")
