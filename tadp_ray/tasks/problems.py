"""How files are refused: by one message with all that is wrong."""

from collections.abc import Sequence

from tadp_ray.errors import UserError

SHOWN = 20
"""Problems that one message lists."""


def raise_problems(problems: Sequence[str]) -> None:
    """Stop if there are problems.

    Raises:
        UserError: there are; the first of them are listed, one a line.
    """
    if problems:
        more = [f"and {len(problems) - SHOWN} more problems"] if len(problems) > SHOWN else []
        raise UserError("\n".join([*problems[:SHOWN], *more]))
