"""The one kind of error that the user can mend. Everything else is a bug, and shows its whole traceback."""

from tadp_ray.addresses import masked


class UserError(Exception):
    """Something outside the code is wrong: a file, a setting, a value, a machine.

    The message names the file, the key, the value and the mend, and no secret: addresses in it are masked. The command
    line prints it in one line and ends with exit code 2; a cell that raises it is not restarted, since no restart can
    help. Any other exception is a bug.
    """

    def __init__(self, message: str) -> None:
        super().__init__(masked(message))
