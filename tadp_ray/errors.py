"""The exception class for errors that the user can fix. Any other exception is a bug and shows its traceback."""

from tadp_ray.addresses import masked


class UserError(Exception):
    """Something outside the code is wrong: a file, a setting, a value, a machine.

    The message names the file, the key, the value and what to do. Secrets in addresses are masked. The command line prints
    it and exits with code 2. A cell that raises it is not restarted, since a restart cannot help.
    """

    def __init__(self, message: str) -> None:
        super().__init__(masked(message))
