"""Shows what a command does now: one line that changes in a terminal, a line for each phase elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.status import Status
from rich.text import Text

from tadp_ray.phases import listening

SECONDS = 10.0
"""Between two lines on the same phase, without a terminal."""


@contextmanager
def show_phases(console: Console) -> Iterator[None]:
    """Show the phases of the block; an empty phase ends the display until the next one."""
    shown = Terminal(console) if console.is_terminal and not console.is_dumb_terminal else Lines(console)
    with listening(shown.show):
        try:
            yield
        finally:
            shown.show("", None)


class Terminal:
    """A line that changes and leaves no trace."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None

    def show(self, text: str, share: float | None) -> None:
        """Show a phase in place of the one before; nothing for an empty one."""
        if not text:
            if self._status:
                self._status.stop()
            self._status = None
        elif self._status:
            self._status.update(Text(worded(text, share)))
        else:
            self._status = Status(Text(worded(text, share)), console=self._console)
            self._status.start()


class Lines:
    """A line when a phase begins, and more lines if it takes long and reports its share."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._text, self._time = "", 0.0

    def show(self, text: str, share: float | None) -> None:
        """Print a new phase, or the progress of a long one."""
        now = time.monotonic()
        if text and (text != self._text or now - self._time >= SECONDS):
            self._console.print(worded(text, share), soft_wrap=True)
            self._time = now
        self._text = text


def worded(text: str, share: float | None) -> str:
    """Return a phase with its share in per cent."""
    return text if share is None else f"{text}: {share:.0%}"
