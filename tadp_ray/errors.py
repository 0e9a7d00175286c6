"""The exception class for errors that the user can fix. Any other exception is a bug and shows its traceback."""

from collections.abc import Sequence

from tadp_ray.addresses import masked


class UserError(Exception):
    """Something outside the code is wrong: a file, a setting, a value, a machine.

    The message names the file, the key, the value and what to do. Secrets in addresses are masked. The command line prints
    it and exits with code 2. A cell that raises it is not restarted, since a restart cannot help.
    """

    def __init__(self, message: str) -> None:
        super().__init__(masked(message))


SHOWN = 20
"""Number of problems that one message lists."""


def listed(problems: Sequence[str], separator: str = "\n") -> str:
    """Join the first problems, and the number of those left out."""
    more = [f"and {len(problems) - SHOWN} more problems"] if len(problems) > SHOWN else []
    return separator.join([*problems[:SHOWN], *more])


def raise_problems(problems: Sequence[str]) -> None:
    """Raise an error if there are problems.

    Raises:
        UserError: lists the first problems, one per line.
    """
    if problems:
        raise UserError(listed(problems))
