"""Standard output that stays usable: whoever reads it may leave, and it need not know every letter."""

import codecs
import errno
import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO

SPELLED = {
    "±": "+-",
    "–": "-",
    "—": "-",
    "…": "...",
    "×": "x",
    "→": "->",
    "≤": "<=",
    "≥": ">=",
    "’": "'",
    "“": '"',
    "”": '"',
}
"""How letters that ASCII lacks are written with those it has."""
GONE = (errno.EPIPE, errno.EIO)
"""How writing fails when a pipe's reader, or the terminal, is no longer there."""


class Lasting:
    """A text stream that swallows what it is given once its reader has gone: `| head` ends, a closed terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text, or nowhere."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._leave(error)
            return len(text)

    def flush(self) -> None:
        """Hand on what was written."""
        try:
            self._stream.flush()
        except OSError as error:
            self._leave(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _leave(self, error: OSError) -> None:
        if error.errno not in GONE:
            raise error
        # What the stream still holds, and what child processes write, goes nowhere from here on.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


def present(stream: TextIO | None) -> TextIO:
    """A stream, or one that leads nowhere: a command that was started with it closed, `>&-`, has none."""
    return open(os.devnull, "w") if stream is None else stream


@contextmanager
def lasting() -> Iterator[None]:
    """In this block, output whose reader leaves ends nothing, and letters that the terminal lacks are spelled out."""
    own = [present(sys.stdout), present(sys.stderr)]
    for stream in own:
        if hasattr(stream, "reconfigure") and codecs.lookup(stream.encoding).name != "utf-8":
            stream.reconfigure(errors="tadp_ray.spelled")
    out, aside = map(Lasting, own)
    with redirect_stdout(out), redirect_stderr(aside):
        try:
            yield
        finally:
            out.flush()
            aside.flush()


def spelled(error: UnicodeError) -> tuple[str, int]:
    """Codecs' handler of letters that an encoding lacks: `±` as `+-`, `é` as `e`, what nobody can spell as `?`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(map(spell, letters)), error.end


def spell(letter: str) -> str:
    """One letter in ASCII."""
    plain = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    return SPELLED.get(letter) or plain or "?"


codecs.register_error("tadp_ray.spelled", spelled)
