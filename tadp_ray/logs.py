"""What is logged is for whoever asks for it: on standard error of a command, and of the processes that it starts."""

import logging

DEBUGGING = "TADP_RAY_DEBUG"
"""Variable of the environment that asks for it, as --debug does."""


def show_log() -> None:
    """Show on standard error what this package logs."""
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s")
    logging.getLogger("tadp_ray").setLevel(logging.DEBUG)
