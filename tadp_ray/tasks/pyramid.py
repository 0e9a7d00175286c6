"""Checks that a head fits a backbone's feature levels: their number and their strides."""

from collections.abc import Sequence
from itertools import pairwise

from tadp_ray.errors import UserError


def unfit(kind: str, strides: Sequence[int], wanted: str) -> UserError:
    """Return the error of a head that does not fit a backbone's levels.

    Args:
        kind: name of the head in recipes.
        strides: strides of the levels in image pixels.
        wanted: the levels that the head accepts.
    """
    return UserError(
        f"model.head.kind={kind}: it is made for {wanted}, but the backbone has {len(strides)} with strides of "
        f"{', '.join(map(str, strides))} pixels; name another head, or another backbone"
    )


def halvings(kind: str, strides: Sequence[int]) -> list[int]:
    """Return how often each level halves the size of the largest one: 0, 1, 2, 3 for strides of 8, 16, 32 and 64 pixels.

    Args:
        kind: name of the head in recipes, for the error.
        strides: strides of the levels, largest level first.

    Raises:
        UserError: a level is larger than the previous one, or a stride is not a power of two times the first.
    """
    ratios = [stride / strides[0] for stride in strides]
    if any(after < before for before, after in pairwise(strides)) or any(
        not ratio.is_integer() or int(ratio).bit_count() != 1 for ratio in ratios
    ):
        raise unfit(kind, strides, "levels whose strides are powers of two times the first")
    return [int(ratio).bit_length() - 1 for ratio in ratios]


def check_doubling(kind: str, strides: Sequence[int]) -> None:
    """Check that each level is half as large as the previous one.

    Raises:
        UserError: a level is not.
    """
    if any(after != 2 * before for before, after in pairwise(strides)):
        raise unfit(kind, strides, "levels each of which has twice the stride of the one before")
