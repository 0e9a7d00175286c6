"""Reports all problems with files in one error."""

from collections.abc import Sequence

from tadp_ray.errors import UserError

SHOWN = 20
"""Number of problems that one message lists."""


def raise_problems(problems: Sequence[str]) -> None:
    """Raise an error if there are problems.

    Raises:
        UserError: lists the first problems, one per line.
    """
    if problems:
        more = [f"and {len(problems) - SHOWN} more problems"] if len(problems) > SHOWN else []
        raise UserError("\n".join([*problems[:SHOWN], *more]))
