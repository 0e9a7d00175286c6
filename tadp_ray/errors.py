"""The exception class for errors that the user can fix. Any other exception is a bug and shows its traceback."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from tadp_ray.addresses import masked


class UserError(Exception):
    """Something outside the code is wrong: a file, a setting, a value, a machine.

    The message names the file, the key, the value and what to do. Secrets in addresses are masked. The command line prints
    it and exits with code 2. A cell that raises it is not restarted, since a restart cannot help.
    """

    def __init__(self, message: str) -> None:
        super().__init__(masked(message))


@contextmanager
def said_as(words: Mapping[str, str]) -> Iterator[None]:
    """In the block, errors name an option or an argument where it stands for a recipe's key.

    Args:
        words: by texts such as `model.weights=`, what a message says in their place, such as `--weights `.
    """
    try:
        yield
    except UserError as error:
        text = str(error)
        for key, word in words.items():
            text = text.replace(key, word)
        if text == str(error):
            raise
        raise UserError(text) from error


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
